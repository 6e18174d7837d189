// Which models are on the disk, and how are they fetched and deleted?

import { get, send, stream } from "./daemon.js";
import { byId, keyed, make, setText } from "./dom.js";
import * as format from "./format.js";

let pulling = null; // AbortController of the pull that runs
let listeners = [];

export function onStore(listener) { listeners.push(listener); }

export async function refreshStore() {
  const { models } = await get("api/tags");
  byId("store-empty").hidden = models.length > 0;
  keyed(byId("store"), models, (model) => model.name, create, change);
  for (const listener of listeners) listener(models);
}

function create(model) {
  const item = make("li"), actions = make("span", "actions");
  const remove = make("button", "small danger", "Delete");
  remove.type = "button";
  remove.setAttribute("aria-label", `Delete ${model.name}`);
  remove.addEventListener("click", () => askToDelete(model.name, remove));
  actions.append(remove);
  item.append(make("span", "name", model.name), make("span", "quiet"), actions);
  return item;
}

function change(item, model) {
  const { parameter_size: size, quantization_level: level, context_length: context } = model.details;
  const parts = [format.fileSize(model.size), size && size !== "0" ? size : "", level,
    context ? `context ${format.whole(context)}` : "", (model.capabilities ?? []).join(", ")];
  setText(item.children[1], parts.filter(Boolean).join(" · "));
}

function askToDelete(name, button) {
  const dialog = byId("question");
  setText(byId("question-title"), `Delete ${name}?`);
  setText(byId("question-text"), "It is removed from the disk. Files that other models use, too, stay.");
  byId("question-no").onclick = () => dialog.close();
  byId("question-yes").onclick = async () => {
    dialog.close();
    button.disabled = true;
    try {
      await send("POST", "api/generate", { model: name, keep_alive: 0, stream: false }).catch(() => {});
      await send("DELETE", "api/delete", { model: name });
      setText(byId("pull-status"), `${name} is deleted.`);
    } catch (error) { setText(byId("pull-status"), `${name} could not be deleted: ${error.message}`); }
    button.disabled = false;
    await refreshStore();
    byId("pull-name").focus();
  };
  dialog.showModal();
}

async function pull(name) {
  const status = byId("pull-status"), bar = byId("pull-progress");
  pulling = new AbortController();
  byId("pull-start").disabled = true;
  byId("pull-stop").disabled = false;
  setText(status, `Asking for ${name}`);
  bar.removeAttribute("value");
  bar.hidden = false;
  try {
    for await (const line of stream("api/pull", { model: name }, pulling.signal)) showProgress(status, bar, line);
    setText(status, `${name} is here.`);
    byId("pull-name").value = "";
  } catch (error) {
    setText(status, error.name === "AbortError"
      ? "Cancelled. It goes on where it stopped when you pull it again." : `${name}: ${error.message}`);
  }
  bar.hidden = true;
  pulling = null;
  byId("pull-start").disabled = false;
  byId("pull-stop").disabled = true;
  await refreshStore();
}

function showProgress(status, bar, line) {
  if (!line.total) {
    bar.removeAttribute("value");
    setText(status, line.status);
    return;
  }
  const done = line.completed ?? 0;
  bar.value = done / line.total;
  setText(status, `${line.status}: ${format.fileSize(done)} of ${format.fileSize(line.total)} (${format.percent(done / line.total)})`);
}

export function startStore() {
  byId("pull").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = byId("pull-name").value.trim();
    if (name && !pulling) pull(name);
    else if (!name) { setText(byId("pull-status"), "Type the name of a model first."); byId("pull-name").focus(); }
  });
  byId("pull-stop").addEventListener("click", () => pulling?.abort());
}
