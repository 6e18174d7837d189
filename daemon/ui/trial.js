// How is a model tried: one prompt, answered with speculation, then without, side by side?

import { stream } from "./daemon.js";
import { byId, make, setClass, setText } from "./dom.js";
import * as format from "./format.js";

const NO_MODEL = "There is no model to try yet: fetch one below.";
const HINT = byId("trial-status").textContent; // before anything has run
let running = null; // AbortController of the answers that run

export function startTrial() {
  const form = byId("trial");
  form.addEventListener("submit", (event) => { event.preventDefault(); run(); });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); run(); }
    if (event.key === "Escape" && running) { event.preventDefault(); running.abort(); }
  });
  byId("trial-stop").addEventListener("click", () => running?.abort());
  byId("trial-compare").addEventListener("change", showPanes);
  showPanes();
}

export function offerModels(models) {
  const select = byId("trial-model"), chosen = select.value;
  const able = models.filter((model) => !model.capabilities || model.capabilities.includes("completion"));
  select.replaceChildren(...able.map((model) => {
    const option = make("option", "", model.name);
    option.value = model.name;
    return option;
  }));
  if (able.some((model) => model.name === chosen)) select.value = chosen;
  select.disabled = able.length === 0;
  byId("trial-run").disabled = able.length === 0 || running !== null;
  if (!able.length) setText(byId("trial-status"), NO_MODEL);
  else if (byId("trial-status").textContent === NO_MODEL) setText(byId("trial-status"), HINT);
}

function showPanes() {
  const both = byId("trial-compare").checked;
  byId("pane-off").hidden = !both;
  setClass(byId("trial-panes"), "single", !both);
}

function body(changes) {
  return {
    model: byId("trial-model").value,
    messages: [{ role: "user", content: byId("trial-prompt").value }],
    options: {
      num_predict: Number(byId("trial-tokens").value) || 200,
      temperature: Number(byId("trial-temperature").value) || 0,
      seed: 1, ...changes,
    },
  };
}

async function run() {
  const model = byId("trial-model").value;
  if (running || !model) return;
  if (!byId("trial-prompt").value.trim()) { setText(byId("trial-status"), "Type a prompt first."); return; }
  running = new AbortController();
  setBusy(true);
  for (const name of ["on", "off"]) { byId(`pane-${name}-text`).replaceChildren(); setText(byId(`pane-${name}-figures`), "–"); }
  try {
    setText(byId("trial-status"), `${model} answers; a model that is not loaded yet takes a moment.`);
    if (byId("trial-compare").checked) await warmUp(running.signal);
    const on = await answer("on", {}, running.signal);
    if (!byId("trial-compare").checked) setText(byId("trial-status"), "Done.");
    else {
      setText(byId("trial-status"), "Now without speculation.");
      const off = await answer("off", { draft_num_predict: 0 }, running.signal);
      setText(byId("trial-status"), verdict(on, off));
    }
  } catch (error) {
    setText(byId("trial-status"), error.name === "AbortError" ? "Stopped." : `It failed: ${error.message}`);
  }
  running = null;
  setBusy(false);
}

function setBusy(isBusy) {
  byId("trial-run").disabled = isBusy;
  byId("trial-stop").disabled = !isBusy;
  if (!isBusy && document.activeElement === document.body) byId("trial-run").focus();
}

// A first token, so that neither of two answers pays for the load and the prompt of the other.
async function warmUp(signal) {
  const first = body({ num_predict: 1, draft_num_predict: 0 });
  for await (const part of stream("api/chat", first, signal)) if (part.done) return;
}

// Text is shown once for each frame of the screen, whatever the speed of the stream.
async function answer(name, options, signal) {
  const box = byId(`pane-${name}-text`), figures = byId(`pane-${name}-figures`);
  const start = performance.now();
  const result = { text: "", rate: null, drafted: 0 };
  let first = null, pending = [], isAwaited = false;
  const show = () => {
    isAwaited = false;
    for (const [kind, text] of pending.splice(0)) append(box, kind, text);
    box.scrollTop = box.scrollHeight;
  };
  for await (const part of stream("api/chat", body(options), signal)) {
    for (const [kind, text] of [["thinking", part.message?.thinking], ["", part.message?.content]]) {
      if (!text) continue;
      first ??= (performance.now() - start) / 1000;
      result.text += text;
      pending.push([kind, text]);
    }
    if (!isAwaited) { isAwaited = true; requestAnimationFrame(show); }
    if (part.done) {
      result.rate = part.eval_duration ? part.eval_count / (part.eval_duration / 1e9) : null;
      result.drafted = part.speculation?.drafted ?? 0;
      setText(figures, figuresOf(part, first, result.rate));
    }
  }
  show();
  return result;
}

function append(box, kind, text) {
  let last = box.lastElementChild;
  if (!last || last.className !== kind) { last = make("span", kind); box.append(last); }
  last.append(text);
}

function figuresOf(part, first, rate) {
  const drafts = part.speculation;
  return [`${format.rate(rate)} tokens/s`, format.plural(part.eval_count ?? 0, "token"),
    `first after ${format.seconds(first)}`,
    drafts?.drafted ? `${drafts.accepted} of ${drafts.drafted} drafts accepted` : "no drafts"].join(" · ");
}

function verdict(on, off) {
  if (!on.rate || !off.rate) return "Done.";
  const same = on.text === off.text ? "The texts are the same." : `The texts differ; outrider verify ${byId("trial-model").value} tells where and why.`;
  if (!on.drafted) return `Nothing was drafted, so the speeds are those of plain decoding. ${same}`;
  return `With speculation ${format.gain(on.rate / off.rate)} tokens/s. ${same}`;
}
