// How does the page call the daemon: with a key if it needs one, and with answers as streams?

const KEY = "outrider-api-key"; // in sessionStorage: gone when the tab is closed

export class Refusal extends Error {
  constructor(status, text) { super(text); this.status = status; }
}

let askForKey = async () => null; // set by the page: asks a person, null: they have none

export function onMissingKey(ask) { askForKey = ask; }

async function request(method, path, body, signal) {
  const key = sessionStorage.getItem(KEY);
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  if (body) headers["Content-Type"] = "application/json";
  const options = { method, headers, signal, cache: "no-store" };
  return fetch(path, body ? { ...options, body: JSON.stringify(body) } : options);
}

async function open(method, path, body, signal) {
  let response = await request(method, path, body, signal);
  while (response.status === 401) {
    const key = await askForKey(sessionStorage.getItem(KEY) !== null);
    if (key === null) throw new Refusal(401, "an API key is needed");
    sessionStorage.setItem(KEY, key);
    response = await request(method, path, body, signal);
  }
  if (!response.ok) throw new Refusal(response.status, await errorText(response));
  return response;
}

async function errorText(response) {
  const text = await response.text();
  try { return String(JSON.parse(text).error); } catch { return text.slice(0, 200) || `HTTP ${response.status}`; }
}

export async function get(path) { return (await open("GET", path)).json(); }

export async function send(method, path, body) {
  const text = await (await open(method, path, body)).text();
  return text ? JSON.parse(text) : {};
}

async function* lines(response) {
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = parts.pop();
      yield* parts.filter(Boolean);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// The objects of an NDJSON answer. Throws the error that one of them names.
export async function* stream(path, body, signal) {
  for await (const line of lines(await open("POST", path, body, signal))) {
    const answer = JSON.parse(line);
    if (answer.error) throw new Refusal(200, String(answer.error));
    yield answer;
  }
}

// The data of server-sent events. EventSource would not do: it sends no key.
export async function* events(path, signal) {
  for await (const line of lines(await open("GET", path, null, signal))) {
    if (line.startsWith("data: ")) yield JSON.parse(line.slice(6));
  }
}
