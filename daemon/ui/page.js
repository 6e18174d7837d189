// What happens on the page: it follows the daemon while it is looked at, and hands each snapshot on.

import { events, onMissingKey } from "./daemon.js";
import { startDoctor } from "./doctor.js";
import { byId, setText } from "./dom.js";
import * as format from "./format.js";
import { changeModels, modelBytes } from "./models.js";
import { changeRequests } from "./requests.js";
import { onStore, refreshStore, startStore } from "./store.js";
import { offerModels, startTrial } from "./trial.js";

const FIRST_WAIT = 1000, LONGEST_WAIT = 15000; // ms before the next try to connect
let previous = null;
let following = null; // AbortController of the stream

function showConnection(text, kind) {
  const element = byId("connection");
  setText(element, text);
  element.className = `connection ${kind}`;
}

function show(snapshot) {
  const models = snapshot.models.filter((model) => !model.is_embedding);
  const sum = (name) => models.reduce((total, model) => total + model[name], 0);
  const rates = ratesOf(snapshot, sum);
  setText(byId("version"), snapshot.version);
  setText(byId("rate"), rates ? `${format.rate(rates.decoded)} tokens/s` : "–");
  setText(byId("prompt-rate"), rates ? `${format.rate(rates.prompts)} tokens/s` : "–");
  setText(byId("slots"), models.length ? `${sum("slots_busy")} of ${sum("slots")}` : "no model");
  setText(byId("waiting"), format.plural(sum("waiting") + snapshot.waiting_for_load, "request"));
  const taken = snapshot.models.reduce((total, model) => total + modelBytes(model), 0);
  setText(byId("memory"), format.bytes(taken));
  setText(byId("uptime"), format.span(snapshot.uptime_s));
  setText(byId("totals"), `Since the start: ${format.plural(snapshot.loads, "load")}, `
    + `${format.plural(snapshot.evictions, "eviction")}, ${format.plural(snapshot.refusals, "load")} refused for want of memory.`);
  changeModels(snapshot, previous);
  changeRequests(snapshot);
  previous = snapshot;
}

// Sums fall when a model is unloaded; there is no rate then.
function ratesOf(snapshot, sum) {
  if (!previous || snapshot.clock_s <= previous.clock_s) return null;
  const old = previous.models.filter((model) => !model.is_embedding);
  const before = (name) => old.reduce((total, model) => total + model[name], 0);
  const passed = snapshot.clock_s - previous.clock_s;
  const change = (name) => Math.max(0, sum(name) - before(name)) / passed;
  return { decoded: change("decoded_tokens"), prompts: change("prompt_tokens") };
}

async function follow() {
  const own = following = new AbortController();
  let wait = FIRST_WAIT;
  while (!own.signal.aborted) {
    try {
      for await (const snapshot of events("api/live", own.signal)) {
        if (!byId("connection").classList.contains("live")) refreshStore().catch(() => {});
        showConnection("Live", "live");
        wait = FIRST_WAIT;
        show(snapshot);
      }
      showConnection("Connection lost", "lost");
    } catch (error) {
      if (own.signal.aborted) return;
      showConnection(error.status === 401 ? "No key: reload to enter one" : error.status ? error.message : "Not reachable", "lost");
      if (error.status === 401) return;
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(wait * 2, LONGEST_WAIT);
  }
}

// A page that nobody looks at asks nothing.
function watchVisibility() {
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      following?.abort();
      previous = null;
      showConnection("Paused", "");
    } else follow();
  });
  if (!document.hidden) follow();
}

let asking = null; // several calls that lack a key ask once

function askForKey(wasWrong) {
  asking ??= new Promise((resolve) => {
    const dialog = byId("key-dialog"), input = byId("key");
    let key = null;
    setText(byId("key-text"), wasWrong ? "The daemon does not know this key." : byId("key-text").textContent);
    input.value = "";
    byId("key-cancel").onclick = () => dialog.close();
    byId("key-form").onsubmit = (event) => { event.preventDefault(); key = input.value.trim(); dialog.close(); };
    dialog.addEventListener("close", () => { asking = null; resolve(key); }, { once: true });
    dialog.showModal();
  });
  return asking;
}

onMissingKey(askForKey);
onStore(offerModels);
startTrial();
startStore();
startDoctor();
watchVisibility();
