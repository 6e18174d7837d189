// Which requests run, and which have ended: route, model, status, tokens and times?

import { byId, keyed, make, setClass, setText } from "./dom.js";
import * as format from "./format.js";

const LEFT = 499;

export function changeRequests(snapshot) {
  const requests = [...snapshot.running].reverse().concat(snapshot.recent);
  byId("requests-empty").hidden = requests.length > 0;
  byId("requests-box").hidden = requests.length === 0;
  keyed(byId("requests"), requests, (request) => request.number, create, change);
}

function create() {
  const row = make("tr");
  for (const classes of ["", "", "name", "", "number", "number", "number", "number", "number", "number"]) {
    row.append(make("td", classes));
  }
  return row;
}

function change(row, request) {
  const cells = [
    format.clock(request.started_at), request.route, request.model || "–", statusText(request),
    format.seconds(request.took_s), format.seconds(request.first_s),
    request.prompt_tokens ? format.whole(request.prompt_tokens) : "–",
    request.tokens ? format.whole(request.tokens) : "–", format.rate(request.tokens_per_s),
    request.drafted ? `${format.whole(request.accepted)} of ${format.whole(request.drafted)}` : "–",
  ];
  cells.forEach((text, i) => setText(row.children[i], text));
  row.children[2].title = request.model;
  const isBad = request.status >= 400 || request.ending === "failed";
  setClass(row.children[3], "bad", isBad && request.status !== LEFT);
  setClass(row.children[3], "good", !request.status);
}

function statusText(request) {
  if (!request.status) return "running";
  if (request.status === LEFT) return "client left";
  return request.ending ? `${request.status} ${request.ending}` : String(request.status);
}
