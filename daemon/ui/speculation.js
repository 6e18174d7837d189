// What does speculation do for one model: length over time, acceptance by depth, cost by rows, gain?

import { chart, drawBars, drawLines } from "./charts.js";
import { make, setText } from "./dom.js";
import * as format from "./format.js";

export const SECONDS = 120; // of the charts over time

function figure(title) {
  const box = make("figure"), caption = make("figcaption");
  const value = make("b");
  const svg = chart(title);
  caption.append(make("span", "", title), value);
  box.append(caption, svg);
  return { box, value, svg };
}

export function createCharts() {
  const box = make("div", "charts");
  const parts = {
    rate: figure("Tokens per second"),
    length: figure("Draft tokens per draft"),
    acceptance: figure("Accepted by depth"),
    cost: figure("Step cost by rows"),
  };
  for (const part of Object.values(parts)) box.append(part.box);
  const legend = make("ul", "legend");
  parts.acceptance.box.append(legend);
  return { box, parts, legend };
}

// `history`: of the model, one entry for each second of looking: {at, rate, length}.
export function changeCharts({ parts, legend }, model, history) {
  const now = history.length ? history[history.length - 1].at : 0;
  const domain = [-SECONDS, 0];
  const over = (name) => history.filter((each) => each[name] !== null).map((each) => [each.at - now, each[name]]);
  const ago = { domain, xFormat: (x) => (x ? `${SECONDS} s ago` : "now"), format: short };
  drawLines(parts.rate.svg, [over("rate")], ago);
  const latest = history.length ? history[history.length - 1].rate : null;
  setText(parts.rate.value, latest === null ? "–" : `${format.rate(latest)} tokens/s`);
  const speculation = model.speculation;
  const drafts = Boolean(speculation && speculation.drafters.length);
  for (const name of ["length", "acceptance", "cost"]) parts[name].box.hidden = !drafts;
  legend.hidden = !drafts;
  if (!drafts) return;
  drawLines(parts.length.svg, [over("length")], ago);
  const mean = speculation.drafts ? speculation.drafted / speculation.drafts : null;
  setText(parts.length.value, mean === null ? "no drafts yet" : `mean ${mean.toFixed(1)}`);
  changeAcceptance(parts.acceptance, legend, speculation);
  changeCost(parts.cost, speculation);
}

function changeAcceptance(part, legend, speculation) {
  const drafters = speculation.by_drafter;
  const depth = Math.min(Math.max(0, ...drafters.map((each) => each.verified.length)), 16);
  const groups = Array.from({ length: depth }, (_, i) => drafters.map((each) =>
    each.verified[i] ? each.accepted[i] / each.verified[i] : null));
  drawBars(part.svg, groups, { format: format.percent, xFormat: (i) => String(i + 1) });
  const share = speculation.drafted ? speculation.accepted / speculation.drafted : null;
  setText(part.value, share === null ? "no drafts yet" : `${format.percent(share)} in all`);
  legend.replaceChildren(...drafters.map((each, i) => make("li", `s${i % 5}`, each.name)));
  part.svg.setAttribute("aria-label", `Accepted share of draft tokens by depth. ${drafters.map((each) =>
    `${each.name}: ${each.verified.map((n, i) => format.percent(n ? each.accepted[i] / n : 0)).join(", ")}`).join("; ")}`);
}

function changeCost(part, speculation) {
  const points = speculation.verify_costs.map((each) => [each.rows, each.seconds * 1000]);
  const last = points.length ? points[points.length - 1][0] : 1;
  drawLines(part.svg, [points], {
    domain: [Math.min(1, last), Math.max(last, 2)], dots: true,
    format: (value) => `${short(value)} ms`, xFormat: (x) => `${x} ${x === 1 ? "row" : "rows"}`,
  });
  const one = points.find(([rows]) => rows === 1);
  setText(part.value, one ? `${one[1].toFixed(1)} ms at 1` : points.length ? "" : "not measured yet");
}

function short(value) {
  if (value >= 1000) return `${+(value / 1000).toFixed(1)}k`;
  return String(+value.toPrecision(value < 100 ? 2 : 3));
}
