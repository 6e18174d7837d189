// How are series drawn: lines and bars in a small SVG that is as wide as its column?

const NS = "http://www.w3.org/2000/svg";
const WIDTH = 320, HEIGHT = 130, LEFT = 46, RIGHT = 8, TOP = 8, BOTTOM = 18; // of the drawing

export function shape(tag, attributes, text = "") {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  return element;
}

export function chart(label) {
  return shape("svg", {
    class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label,
  });
}

// A round number that is at least `value`: 1, 2 or 5 times a power of ten.
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

function frame(svg, top, format, xLabels) {
  svg.replaceChildren();
  for (const share of [0, 0.5, 1]) {
    const y = TOP + (HEIGHT - TOP - BOTTOM) * (1 - share);
    svg.append(
      shape("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y }),
      shape("text", { x: LEFT - 5, y: y + 4, "text-anchor": "end" }, format(top * share)),
    );
  }
  for (const [x, text, anchor] of xLabels) {
    svg.append(shape("text", { x, y: HEIGHT - 4, "text-anchor": anchor }, text));
  }
}

// `series`: arrays of [x, y]; x runs from `domain[0]` to `domain[1]`.
export function drawLines(svg, series, { domain, top = 0, format = String, xFormat = String, dots = false }) {
  const highest = Math.max(0, ...series.flat().map(([, y]) => y));
  const limit = top || ceiling(highest || 1);
  const [low, high] = domain;
  const place = ([x, y]) => [
    LEFT + ((x - low) / (high - low || 1)) * (WIDTH - LEFT - RIGHT),
    TOP + (1 - Math.min(y / limit, 1)) * (HEIGHT - TOP - BOTTOM),
  ];
  frame(svg, limit, format, [[LEFT, xFormat(low), "start"], [WIDTH - RIGHT, xFormat(high), "end"]]);
  series.forEach((points, i) => {
    const placed = points.map(place);
    const path = placed.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
    svg.append(shape("polyline", { class: `l${i % 5}`, points: path }));
    if (dots || points.length === 1) {
      for (const [x, y] of placed) svg.append(shape("circle", { class: `f${i % 5}`, cx: x, cy: y, r: 2.5 }));
    }
  });
}

// `groups`: for each place on the x axis one share from 0 to 1 (or null) for each series.
export function drawBars(svg, groups, { format, xFormat = String }) {
  const count = Math.max(groups.length, 1), series = Math.max(1, ...groups.map((group) => group.length));
  const room = (WIDTH - LEFT - RIGHT) / count, width = Math.min((room * 0.8) / series, 26);
  const centre = (i) => LEFT + room * (i + 0.5);
  const step = Math.ceil(count / 12);
  const labels = groups.map((_, i) => [centre(i), xFormat(i), "middle"]).filter((_, i) => i % step === 0);
  frame(svg, 1, format, labels);
  groups.forEach((group, i) => group.forEach((share, j) => {
    if (share === null) return;
    const height = share * (HEIGHT - TOP - BOTTOM);
    svg.append(shape("rect", {
      class: `f${j % 5}`, x: centre(i) + (j - group.length / 2) * width, width: width * 0.9,
      y: HEIGHT - BOTTOM - height, height,
    }));
  }));
}

// One bar of parts, side by side; `parts`: [class number, amount].
export function stack(label) {
  return shape("svg", { class: "bar", viewBox: "0 0 1000 12", preserveAspectRatio: "none", role: "img", "aria-label": label });
}

export function drawStack(svg, parts, total) {
  let x = 0;
  svg.replaceChildren(...parts.map(([number, amount]) => {
    const width = total ? (amount / total) * 1000 : 0;
    const rect = shape("rect", { class: `f${number}`, x, width, height: 12 });
    x += width;
    return rect;
  }));
}
