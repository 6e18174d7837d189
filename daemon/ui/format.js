// How are numbers worded for people, with their units?

export function bytes(count) {
  if (!count) return "0 B";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(Math.floor(Math.log2(count) / 10), units.length - 1);
  const value = count / 1024 ** power;
  return `${value.toFixed(power && value < 100 ? 1 : 0)} ${units[power]}`;
}

// As `outrider list` shows files: decimal units.
export function fileSize(count) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let power = 0;
  while (count >= 999.5 && power < units.length - 1) { count /= 1000; power += 1; }
  return `${count.toFixed(power && count < 9.95 ? 1 : 0)} ${units[power]}`;
}

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 0.9995) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value.toFixed(1)} s`;
  return span(value);
}

export function span(value) {
  const whole = Math.round(value);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor(whole / 60) % 60} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor(whole / 3600) % 24} h`;
}

export function rate(value) {
  if (value === null || value === undefined) return "–";
  return value >= 99.95 ? whole(value) : value.toFixed(1);
}

export function whole(value) { return Math.round(value).toLocaleString("en-US"); }

export function percent(share) { return `${Math.round(share * 100)} %`; }

export function gain(speedup) {
  const change = Math.round((speedup - 1) * 100);
  return `${change > 0 ? "+" : change < 0 ? "−" : "±"}${Math.abs(change)} %`;
}

export function clock(unixSeconds) {
  return new Date(unixSeconds * 1000).toLocaleTimeString([], { hour12: false });
}

export function plural(count, word) { return `${whole(count)} ${word}${count === 1 ? "" : "s"}`; }
