// Which models are loaded, what do they take, and what do they do?

import { stack, drawStack } from "./charts.js";
import { send } from "./daemon.js";
import { byId, keyed, make, setClass, setText } from "./dom.js";
import * as format from "./format.js";
import { SECONDS, changeCharts, createCharts } from "./speculation.js";

const PARTS = [
  ["weights_bytes", "weights"], ["cache_bytes", "KV cache"], ["compute_bytes", "compute"],
  ["drafter_bytes", "drafter"], ["adapter_bytes", "adapters"],
];
const histories = new Map(); // by key: entries of speculation.js
const views = new WeakMap(); // by card: what of it changes

const keyOf = (model) => `${model.name} ${model.is_embedding ? "vectors" : "text"}`;
const total = (device) => PARTS.reduce((sum, [part]) => sum + device[part], 0);
export const modelBytes = (model) => model.devices.reduce((sum, device) => sum + total(device), 0);

export function changeModels(snapshot, previous) {
  const models = snapshot.models;
  byId("models-empty").hidden = models.length > 0;
  for (const key of histories.keys()) if (!models.some((model) => keyOf(model) === key)) histories.delete(key);
  for (const model of models) remember(model, snapshot, previous);
  keyed(byId("models"), models, keyOf, create, (card, model) => change(card, model, snapshot));
}

// Rates come from two snapshots; a counter that fell belongs to a runner that was started again.
function remember(model, snapshot, previous) {
  const history = histories.get(keyOf(model)) ?? [];
  histories.set(keyOf(model), history);
  const old = previous?.models.find((each) => keyOf(each) === keyOf(model));
  const passed = previous ? snapshot.clock_s - previous.clock_s : 0;
  if (!old || passed <= 0 || old.decoded_tokens > model.decoded_tokens) return;
  const drafts = (model.speculation?.drafts ?? 0) - (old.speculation?.drafts ?? 0);
  const drafted = (model.speculation?.drafted ?? 0) - (old.speculation?.drafted ?? 0);
  history.push({
    at: snapshot.clock_s,
    rate: (model.decoded_tokens - old.decoded_tokens) / passed,
    length: drafts > 0 ? drafted / drafts : model.decoded_tokens > old.decoded_tokens ? 0 : null,
  });
  while (history[0].at < snapshot.clock_s - SECONDS) history.shift();
}

function create(model) {
  const card = make("article", "card"), head = make("div", "model-head");
  card.setAttribute("aria-label", `Model ${model.name}`);
  const unload = make("button", "small", "Unload");
  unload.type = "button";
  unload.setAttribute("aria-label", `Unload ${model.name}`);
  unload.addEventListener("click", async () => {
    unload.disabled = true;
    try {
      await send("POST", "api/generate", { model: model.name, keep_alive: 0, stream: false });
    } catch (error) { setText(view.warnings, String(error.message)); }
    unload.disabled = false;
  });
  const view = {
    expiry: make("span", "quiet"), facts: make("ul", "facts"), devices: make("div"),
    gain: make("p"), charts: createCharts(), warnings: make("div"), unload,
  };
  head.append(make("h3", "", model.name), view.expiry, unload);
  card.append(head, view.facts, view.devices, view.warnings, view.gain, view.charts.box);
  views.set(card, view);
  return card;
}

function change(card, model, snapshot) {
  const view = views.get(card);
  setText(view.expiry, expiry(model));
  keyed(view.facts, facts(model), ([name]) => name, fact, changeFact);
  keyed(view.devices, model.devices, (device) => device.device, createDevice,
    (box, device) => changeDevice(box, device, snapshot));
  keyed(view.warnings, model.warnings, (text) => text, () => make("p", "warning"), (p, text) => setText(p, text));
  setText(view.gain, gainText(model.speculation));
  view.charts.box.hidden = model.is_embedding;
  if (!model.is_embedding) changeCharts(view.charts, model, histories.get(keyOf(model)) ?? []);
}

function expiry(model) {
  if (model.expires_in_s === null) return "stays loaded";
  if (model.leases) return "in use";
  return `unloaded in ${format.span(model.expires_in_s)}`;
}

function facts(model) {
  if (model.is_embedding) return [["vectors of", format.plural(model.leases, "running request")]];
  return [
    ["slots", `${model.slots_busy} of ${model.slots}`],
    ["waiting", format.whole(model.waiting)],
    ["KV cells", `${format.whole(model.cells_used)} of ${format.whole(model.cells)} (${model.kv_type})`],
    ["context", `${format.whole(model.context_length)} tokens`],
    ["decoded", `${format.whole(model.decoded_tokens)} tokens`],
    ["prompts", `${format.whole(model.prompt_tokens)} tokens, ${format.whole(model.cached_tokens)} from the cache`],
    ["step", model.steps ? format.seconds(model.step_s / model.steps) : "–"],
  ];
}

function fact([name]) {
  const item = make("li");
  item.append(make("span", "quiet", `${name} `), make("b"));
  return item;
}

function changeFact(item, [, value]) { setText(item.lastElementChild, value); }

function createDevice(device) {
  const box = make("div", "device");
  box.append(make("span"), stack(`Memory on ${device.device} by part`), make("ul", "legend"));
  return box;
}

function changeDevice(box, device, snapshot) {
  const [title, bar, legend] = box.children;
  const gpu = snapshot.machine.gpus.find(([name]) => name === device.device);
  const room = gpu ? gpu[2] : snapshot.machine.memory_bytes;
  const used = total(device);
  setText(title, `${gpu ? gpu[1] : "Host memory"}: ${format.bytes(used)} of ${format.bytes(room)}`);
  const parts = PARTS.map(([part, name], i) => [i, device[part], name]).filter(([, count]) => count);
  if (box.dataset.used === String(used)) return;
  box.dataset.used = String(used);
  drawStack(bar, parts, Math.max(used, 1));
  keyed(legend, parts, ([, , name]) => name, ([i]) => make("li", `s${i}`),
    (item, [, count, name]) => setText(item, `${name} ${format.bytes(count)}`));
  setClass(box, "empty-device", !used);
}

function gainText(speculation) {
  if (!speculation) return "No speculation: the model has no drafter, or it is switched off.";
  if (!speculation.drafters.length) return `No speculation: ${speculation.refusal}`;
  const names = speculation.drafters.join(" and ");
  if (!speculation.drafted) return `Speculation by ${names}: nothing was drafted yet.`;
  return `Speculation by ${names}: ${format.gain(speculation.speedup)} tokens/s by its own estimate; `
    + `${format.whole(speculation.accepted)} of ${format.whole(speculation.drafted)} draft tokens accepted; `
    + `step times are forecast within ${format.percent(speculation.misjudged)}.`;
}
