// Units and words as `kubectl ollama` prints them. Pure.

const KI = 2 ** 10, MI = 2 ** 20, GI = 2 ** 30;

/** A number with so many digits after the point, halves to the even one as Python does it.
 * @param {number} least @param {number} most */
const digits = (least, most) => new Intl.NumberFormat("en", {
  minimumFractionDigits: least, maximumFractionDigits: most, roundingMode: "halfEven", useGrouping: false,
});
const WHOLE = digits(0, 0), SHORT = digits(0, 1), TENTHS = digits(1, 1), HUNDREDTHS = digits(2, 2);

/** Memory: `24 GiB`, `11.9 GiB`, `640 MiB`, `2 KiB`. @param {number} size bytes */
export function gib(size) {
  if (size < MI) return `${WHOLE.format(size / KI)} KiB`;
  if (size < GI) return `${WHOLE.format(size / MI)} MiB`;
  return `${SHORT.format(size / GI)} GiB`;
}

/** Memory in use of all there is: `14.2 GiB of 42 GiB`; `unknown` where nobody knows.
 * @param {number|null|undefined} used bytes @param {number|null|undefined} total bytes
 * @param {string} between */
export function amounts(used, total, between = " / ") {
  if (total == null) return "unknown";
  if (used == null) return gib(total);
  return `${used ? gib(used) : "0"}${between}${gib(total)}`;
}

/** The part in use, 0 to 1; null where it is not known. @returns {number|null} */
export function share(used, total) {
  return used == null || !total ? null : Math.min(1, Math.max(0, used / total));
}

/** Bytes as downloads are told: `13.8 GB`, `420 MB`. @param {number|null|undefined} size */
export function download(size) {
  if (!size) return "";
  return size >= 1e9 ? `${TENTHS.format(size / 1e9)} GB` : `${WHOLE.format(size / 1e6)} MB`;
}

/** `42 MB/s`; nothing for no speed. @param {number|null|undefined} speed bytes a second */
export function rate(speed) {
  return speed ? `${download(speed)}/s` : "";
}

/** `71%`. @param {number} part 0 to 1 */
export function percent(part) {
  return `${WHOLE.format(part * 100)}%`;
}

/** A time span in its two largest units: `3h12m`, `4m10s`, `8s`. @param {number} seconds */
export function span(seconds) {
  const whole = Math.max(0, Number(WHOLE.format(seconds)));
  const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  if (hours) return `${hours}h${minutes}m`;
  return minutes ? `${minutes}m${whole % 60}s` : `${whole}s`;
}

/** How long ago, in one unit as kubectl tells ages: `4d`, `12m`, `8s`.
 * @param {string|null|undefined} time RFC 3339 @param {number} now milliseconds */
export function age(time, now) {
  const begun = Date.parse(time ?? "");
  if (Number.isNaN(begun)) return "";
  const seconds = Math.max(0, Math.round((now - begun) / 1000));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86400)}d`;
}

/** Seconds a person waits: `0.21 s`, `3.4 s`, `38 s`; `-` where nothing happened.
 * @param {number|null|undefined} value */
export function seconds(value) {
  if (value == null) return "-";
  return `${value < 1 ? HUNDREDTHS.format(value) : value < 10 ? TENTHS.format(value) : WHOLE.format(value)} s`;
}

/** Of the first tokens: `0.21 s / 1.4 s`. */
export function both(p50, p99) {
  return p50 == null ? "-" : `${seconds(p50)} / ${seconds(p99)}`;
}

/** How often: `4.2`, `38`, `156`; `-` where nobody knows. @param {number|null|undefined} value */
export function perSecond(value) {
  if (value == null) return "-";
  return value >= 100 || Number.isInteger(value) ? WHOLE.format(value) : TENTHS.format(value);
}

/** `1 request`, `2 requests`. */
export function counted(count, word) {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}

/** A digest as people compare it: its first twelve digits. @param {string|null|undefined} digest */
export function short(digest) {
  return (digest ?? "").replace(/^sha256:/, "").slice(0, 12);
}

/** What a Task's state is called in the matrix: `71%`, `installed`. */
export function word(task) {
  if (task.state === "Pulling" || task.state === "Verifying") return percent(task.progress);
  return task.state.toLowerCase();
}

/** Seconds until a pull ends, at its present speed; null where nobody can tell. */
export function eta(task) {
  if (!task.download_speed_bps || task.total_bytes == null) return null;
  return (task.total_bytes - (task.completed_bytes ?? 0)) / task.download_speed_bps;
}

/** A model's shortest full name: `llama3.2` is `llama3.2:latest`. @param {string} name */
export function canonical(name) {
  const told = name.replace(/^registry\.ollama\.ai\//i, "").replace(/^library\//i, "");
  return told.lastIndexOf(":") > told.lastIndexOf("/") ? told : `${told}:latest`;
}
