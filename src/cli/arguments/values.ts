/**
 * Values of options, from text and into text that is read again. What reads one throws an
 * `InvalidArgumentError` that says what is expected.
 */

import type { Oversize } from "../../framing/splitter.ts";
import { InvalidArgumentError } from "commander";
import { messageOf, OptionError } from "../../base/errors.ts";
import { type HostRemote, parseRemote, type Remote } from "../../base/remote.ts";
import type { Framing } from "../../framing/framing.ts";
import { assertFraming } from "../../framing/grammar.ts";
import { AllowedPeers } from "../../kernel/allowed_peers.ts";
import type { Listen } from "../../permissions/permissions.ts";
import { isQueueUrl, parseQueueUrl } from "../../postgres/address.ts";
import { isSpoolAddress, parseSpoolAddress } from "../../spool/address.ts";
import type { IdRange } from "../../queue/options.ts";
import { DURATION_UNITS_MS } from "../terminal/figures.ts";

const SIZE_UNITS: { readonly [unit: string]: number } = {
  "": 1,
  B: 1,
  kB: 1e3,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
};

/** `500ms`, `3s`, `1.5m`, `2h`, `1d` in milliseconds, rounded to whole ones. */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text);
  const unit = match?.[2];
  if (match === null || !isDurationUnit(unit)) {
    throw new InvalidArgumentError("Expected a duration with its unit: 500ms, 3s, 2m, 1h, 1d.");
  }
  return Math.round(Number(match[1]) * DURATION_UNITS_MS[unit]);
}

/** The same; `never` is `Infinity`. */
export function parseDurationOrNever(text: string): number {
  return text === "never" ? Infinity : parseDuration(text);
}

function isDurationUnit(unit: string | undefined): unit is keyof typeof DURATION_UNITS_MS {
  return unit !== undefined && unit in DURATION_UNITS_MS;
}

/** `4096`, `256KiB`, `1MiB`, `1.5GB` in bytes, which have to be a whole number. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([A-Za-z]*)$/.exec(text);
  const factor = SIZE_UNITS[match?.[2] ?? "?"];
  const bytes = Number(match?.[1]) * (factor ?? NaN);
  if (!Number.isSafeInteger(bytes)) {
    throw new InvalidArgumentError("Expected a size: 4096, 256KiB, 16MiB, 1GiB (or kB, MB, GB).");
  }
  return bytes;
}

/** Decimal digits, which `_` may group, or hexadecimal ones behind `0x`. */
export function parseCount(text: string): number {
  const count = /^(\d+(_\d+)*|0x[0-9a-fA-F]+)$/.test(text) ? Number(text.replaceAll("_", "")) : NaN;
  if (!Number.isSafeInteger(count)) throw new InvalidArgumentError("Expected a whole number.");
  return count;
}

/** The permissions of a file in three or four octal digits: `660`, `0600`. */
export function parseMode(text: string): number {
  if (!/^0?[0-7]{3}$/.test(text)) {
    throw new InvalidArgumentError("Expected permissions in octal digits: 660, 0600.");
  }
  return parseInt(text, 8);
}

export function parseRemoteArgument(text: string): Remote {
  try {
    const remote = parseRemote(text);
    if (remote.listen) new AllowedPeers(remote.allowFrom); // Throws what listening would.
    return remote;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new InvalidArgumentError(`${error.message}.`);
  }
}

/** One server to connect to. */
export function parseServer(text: string): Remote {
  const remote = parseRemoteArgument(text);
  if (remote.listen || remote.standbys !== undefined) {
    throw new InvalidArgumentError(
      "Expected one server: tcp://HOST:PORT, tls://HOST:PORT or unix:PATH.",
    );
  }
  return remote;
}

/** `127.0.0.1:9465`, `[::1]:9465`. */
export function parseHttpAddress(text: string): HostRemote {
  try {
    return parseTcp(text);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new InvalidArgumentError("Expected HOST:PORT, such as 127.0.0.1:9465 or [::1]:9465.");
  }
}

/** @throws {TypeError} It is not `HOST:PORT`, once. */
function parseTcp(text: string): HostRemote {
  const remote = parseRemote(`tcp://${text}`);
  if (remote.scheme !== "unix" && remote.standbys === undefined) return remote;
  throw new TypeError(`${text} is more than one address`);
}

/** `tcp://HOST:PORT`, port 0 for any that is free, or `unix:PATH`. */
export function parseListen(text: string): Listen {
  if (text.startsWith("tls:")) {
    throw new InvalidArgumentError("Clients are accepted without TLS: tcp://HOST:PORT, unix:PATH.");
  }
  // Port 0 is no port to send to, but one to listen on.
  const anyPort = /^tcp:\/\/.*[^:]:0$/.test(text);
  const remote = parseServer(anyPort ? text.replace(/0$/, "1") : text);
  if (remote.scheme === "unix") return { transport: "unix", path: remote.path };
  return { transport: "tcp", ...remote, ...(anyPort ? { port: 0 } : {}) };
}

export function parseId(text: string): number {
  const id = /^[1-9]\d*$/.test(text) ? Number(text) : NaN;
  if (!Number.isSafeInteger(id)) {
    throw new InvalidArgumentError("Expected a packet's id, such as 12.");
  }
  return id;
}

/** `12` or `12-20`; for an argument that may be given several times. */
export function parseIdRanges(text: string, earlier: readonly IdRange[] = []): IdRange[] {
  const [first = "", last = first, ...more] = text.split("-");
  const range = more.length > 0 ? undefined : { firstId: parseId(first), lastId: parseId(last) };
  if (range === undefined || range.lastId < range.firstId) {
    throw new InvalidArgumentError("Expected an id or a range of ids, such as 12 or 12-20.");
  }
  return [...earlier, range];
}

/** `1500ms`, `3s`, `1d`: as {@linkcode parseDuration} reads it, exactly. */
export function writeDuration(ms: number): string {
  return write(ms, DURATION_UNITS_MS);
}

/** `4000`, `256KiB`, `1GiB`: as {@linkcode parseSize} reads it, exactly. */
export function writeSize(bytes: number): string {
  return write(bytes, { "": 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 });
}

/** In the largest unit that leaves a whole number. */
function write(value: number, units: { readonly [unit: string]: number }): string {
  const [smallest = ["", 1] as const, ...others] = Object.entries(units);
  const fits = others.findLast(([, factor]) => value !== 0 && value % factor === 0);
  const [unit, factor] = fits ?? smallest;
  return `${value / factor}${unit}`;
}

/** A path, or an address of a queue that can be understood. */
export function checkedQueue(queue: string): string {
  try {
    if (isSpoolAddress(queue)) parseSpoolAddress(queue);
    else if (isQueueUrl(queue) && parseQueueUrl(queue).name === "") {
      throw new Error("the queue's name is missing behind it");
    }
    return queue;
  } catch (error) {
    throw new InvalidArgumentError(messageOf(error));
  }
}

/** A name, or a description as text or as an object. */
export function checkedFraming(framing: unknown): Framing {
  try {
    assertFraming(framing, "framing");
    return framing;
  } catch (error) {
    throw error instanceof OptionError ? new InvalidArgumentError(`It ${error.rule}.`) : error;
  }
}

/** What may become of a packet that is too large. */
export const OVERSIZES: readonly Oversize[] = ["fail", "skip", "cut"];
