// How are elements made and changed? Texts of models and clients become text nodes, never markup.

export function byId(id) { return document.getElementById(id); }

export function make(tag, classes = "", text = "") {
  const element = document.createElement(tag);
  if (classes) element.className = classes;
  if (text) element.textContent = text;
  return element;
}

// Only what differs is written, so that a selection and a reader's place survive.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setClass(element, name, isOn) { element.classList.toggle(name, Boolean(isOn)); }

// The children of `parent` follow `items`: one element for each key, made once, then changed.
export function keyed(parent, items, keyOf, create, change) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let next = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let element = old.get(key);
    old.delete(key);
    if (!element) {
      element = create(item);
      element.dataset.key = key;
    }
    if (element === next) next = next.nextElementSibling;
    else parent.insertBefore(element, next);
    change(element, item);
  }
  for (const element of old.values()) element.remove();
}
