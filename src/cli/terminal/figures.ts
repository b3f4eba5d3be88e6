/** Figures as people read them. */

/** What the units of a duration are in milliseconds. */
export const DURATION_UNITS_MS = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
} as const;

/** `1,234`. By hand: the runtime's own way loads its tables of languages, 20 ms of each start. */
export function formatCount(count: number): string {
  const [whole = "", fraction] = String(Math.round(count * 1000) / 1000).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return fraction === undefined ? grouped : `${grouped}.${fraction}`;
}

/** `1,234 dead letters`, `1 dead letter`. */
export function formatThings(count: number, name: string): string {
  return `${formatCount(count)} ${name}${count === 1 ? "" : "s"}`;
}

/** `12 packets`, `1 packet`. */
export function formatPackets(count: number): string {
  return formatThings(count, "packet");
}

/** `ids 5 to 16`, `id 5`. */
export function formatIds(firstId: number, lastId: number): string {
  return firstId === lastId ? `id ${firstId}` : `ids ${firstId} to ${lastId}`;
}

/** `512 B`, `1.5 KiB`, `3.0 MiB`. */
export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const steps = Math.min(3, Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 2 ** (10 * steps)).toFixed(1)} ${["B", "KiB", "MiB", "GiB"][steps]}`;
}

/** `250ms`, `3s`, `2.5m`, `3h`, `2.5d`: to be read, with one decimal. */
export function formatDuration(ms: number): string {
  if (ms === Infinity) return "never";
  // From two of them on, an hour and a day say more.
  const unit = ms >= 2 * DURATION_UNITS_MS.d
    ? "d"
    : ms >= 2 * DURATION_UNITS_MS.h
    ? "h"
    : ms >= 60_000
    ? "m"
    : ms >= 1000
    ? "s"
    : "ms";
  return `${Math.round(10 * ms / DURATION_UNITS_MS[unit]) / 10}${unit}`;
}

/** An address that is told may have a password, be it one that was mistyped. */
export function withoutPasswords(text: string): string {
  return text.replace(/(\/\/[^\s:@/]*):\S*@/g, "$1:…@").replace(/(password=)[^\s&"']+/gi, "$1…");
}

/** Control characters, and those that change the direction of what follows. */
const CONTROLS = /[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu;

/**
 * Writes control characters as `\x1b`, `\u202e`, so that they cannot recolour a
 * terminal, hide a line, or begin a new one: a server's answer, a path and
 * another process's notice are all somebody else's text.
 */
export function printable(text: string): string {
  return text.replaceAll(CONTROLS, (character) => {
    const code = character.charCodeAt(0).toString(16);
    return code.length <= 2 ? `\\x${code.padStart(2, "0")}` : `\\u${code.padStart(4, "0")}`;
  });
}
