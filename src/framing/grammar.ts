/**
 * From what is written for a framing to what cuts and frames; for the command's flags and for
 * the library.
 */

import { OptionError } from "../base/errors.ts";
import { fromHex } from "./byte_pattern.ts";
import { chunksCodec } from "./chunks.ts";
import type { Codec } from "./codec.ts";
import { DelimiterCodec } from "./delimiter.ts";
import { FrameCodec, type FrameMarks } from "./frame.ts";
import { type Framing, FRAMING_RULE, NAMED_FRAMINGS, type NamedFraming } from "./framing.ts";
import { LengthCodec, type LengthLayout } from "./length.ts";
import { OctetCountingCodec } from "./octet_counting.ts";

/**
 * Makes a framing ready for use.
 *
 * @param framing A name, a description as text or as an object.
 * @param option What errors call it.
 * @throws {OptionError} It is none; says what is expected.
 */
export function codecOf(framing: Framing | string | object, option: string): Codec {
  const refuse: Refuse = (rule) => {
    throw new OptionError(option, framing, rule);
  };
  return typeof framing === "string"
    ? codecOfText(framing, refuse)
    : codecOfDescription({ ...framing }, refuse);
}

/**
 * Checks a framing by which a single message is to be told; see `codecOf`.
 *
 * @throws {OptionError} It is no framing, or does not mark where one ends.
 */
export function framingWithEnds(framing: Framing, option: string): Framing {
  if (codecOf(framing, option).unit !== "chunk") return framing;
  throw new OptionError(option, framing, "must be one that marks where an answer ends");
}

/** Those that have a name. */
const codecs = new Map<string, Codec>();

type Refuse = (rule: string) => never;

/**
 * Checks a framing that was written; see `codecOf`.
 *
 * @throws {OptionError} It is none; says what is expected.
 */
export function assertFraming(
  framing: string,
  option: string,
): asserts framing is Exclude<Framing, object>;
export function assertFraming(framing: unknown, option: string): asserts framing is Framing;
export function assertFraming(framing: unknown, option: string): void {
  if (typeof framing !== "string" && (typeof framing !== "object" || framing === null)) {
    throw new OptionError(option, framing, "must be a framing, such as lines");
  }
  codecOf(framing, option);
}

function codecOfText(text: string, refuse: Refuse, name = text): Codec {
  return codecs.get(text) ?? codecOfDescription(describedBy(text, refuse), refuse, name);
}

/** The object that a text stands for, which is checked like any other. */
function describedBy(text: string, refuse: Refuse): Unchecked {
  const colon = text.indexOf(":");
  const [kind, rest] = colon < 0 ? [text, ""] : [text.slice(0, colon), text.slice(colon + 1)];
  const [first = "", ...others] = rest.split(",");
  const settings = settingsOf(others, kind, refuse);
  switch (colon < 0 ? "" : kind) {
    case "delimiter":
      return { kind, delimiter: rest };
    case "frame": {
      const [start = "", end = "", ...more] = first.split("/");
      if (more.length > 0 || end === "") {
        refuse("must give frame:START/END in hexadecimal digits, such as frame:0b/1c0d");
      }
      return { kind, start, end, ...settings };
    }
    case "length":
      return { kind, bytes: Number(first), ...settings };
    case "fixed":
      return { kind, bytes: Number(rest) };
    default:
      return refuse(FRAMING_RULE);
  }
}

/** What may stand behind a kind as `name=value`. */
const SETTINGS: ReadonlyMap<string, readonly string[]> = new Map([
  ["frame", ["escape", "xor"]],
  ["length", ["offset", "adjust", "header", "trailer"]],
]);
/** Those of them that are numbers; all else is hexadecimal digits. */
const NUMBERS: ReadonlySet<string> = new Set(["offset", "adjust"]);

/** `le`, and what is written as `name=value`. */
function settingsOf(
  texts: readonly string[],
  kind: string,
  refuse: Refuse,
): { readonly [name: string]: unknown } {
  const allowed = SETTINGS.get(kind) ?? [];
  const settings: Record<string, unknown> = {};
  for (const text of texts) {
    const [name = "", value, ...more] = text.split("=");
    if (kind === "length" && text === "le") {
      settings["littleEndian"] = true;
    } else if (allowed.includes(name) && value && more.length === 0 && !(name in settings)) {
      settings[name] = NUMBERS.has(name) ? Number(value) : value;
    } else if (SETTINGS.has(kind)) {
      const forms = [...(kind === "length" ? ["le"] : []), ...allowed.map((word) => `${word}=…`)];
      refuse(`may have ${forms.join(", ")} behind ${kind}:…, each once, and not "${text}"`);
    }
  }
  return settings;
}

/** What was given for an object, which nobody has checked yet. */
interface Unchecked {
  readonly kind?: unknown;
  readonly [field: string]: unknown;
}

/** The fields of each kind of object. */
const FIELDS: ReadonlyMap<unknown, readonly string[]> = new Map([
  ["delimiter", ["delimiter"]],
  ["frame", ["start", "end", "escape", "xor"]],
  ["length", ["bytes", "littleEndian", "offset", "adjust", "header", "trailer"]],
  ["fixed", ["bytes"]],
  ["octet-counting", []],
  ["chunks", []],
]);

function codecOfDescription(given: Unchecked, refuse: Refuse, name?: string): Codec {
  const { kind } = given;
  const fields = FIELDS.get(kind);
  if (fields === undefined) {
    return refuse(
      `${FRAMING_RULE}; or an object whose kind is one of ${[...FIELDS.keys()].join(", ")}`,
    );
  }
  const unknown = Object.keys(given).find((field) => field !== "kind" && !fields.includes(field));
  if (unknown !== undefined) refuse(`has no field "${unknown}" where kind is "${kind}"`);
  const bytes = (field: string) => bytesOf(given[field], field, refuse);
  const one = (field: string) => {
    const value = bytes(field);
    return value.length === 1 ? value[0] ?? 0 : refuse(`must give one byte for ${field}`);
  };
  switch (kind) {
    case "delimiter":
      return new DelimiterCodec(bytes("delimiter"), name);
    case "frame": {
      const hasXor = given["xor"] !== undefined;
      const escape = given["escape"] === undefined ? undefined : one("escape");
      const start = bytes("start"), end = bytes("end");
      const marks = { start, end, escape, xor: hasXor ? one("xor") : 0 };
      checkEscape(marks, hasXor, refuse);
      return new FrameCodec(marks, name);
    }
    case "length":
      return new LengthCodec([layoutOf(given, bytes, refuse)], name);
    case "fixed":
      return new LengthCodec([fixedLayout(given["bytes"], refuse)], name);
    case "chunks":
      return chunksCodec();
    default:
      return new OctetCountingCodec("octet-counting", false);
  }
}

function bytesOf(value: unknown, field: string, refuse: Refuse): Uint8Array {
  const bytes = typeof value === "string"
    ? fromHex(value)
    : value instanceof Uint8Array && value.length > 0
    ? value.slice()
    : undefined;
  return bytes ?? refuse(
    `must give ${field} as pairs of hexadecimal digits, such as 0d0a` +
      (typeof value === "string" ? `, and not "${value}"` : ""),
  );
}

/** An escaped byte must not be read as an end. */
function checkEscape(
  { start, end, escape, xor }: FrameMarks,
  hasXor: boolean,
  refuse: Refuse,
): void {
  if (escape === undefined) {
    if (hasXor) refuse("must give escape where it gives xor");
    return;
  }
  const place = end.lastIndexOf(escape);
  if (place > 0 || (place === 0 && end.length !== 2)) {
    refuse("must give an end that holds the escape byte only as the first one of two");
  }
  if (place === 0 && [escape, start[0] ?? 0].some((byte) => (byte ^ xor) === end[1])) {
    refuse("must give an escape, a start and an end of which none is read as another");
  }
}

const NOTHING = new Uint8Array(0);

function layoutOf(
  given: Unchecked,
  bytes: (field: string) => Uint8Array,
  refuse: Refuse,
): LengthLayout {
  const size = given["bytes"];
  if (size !== 1 && size !== 2 && size !== 4 && size !== 8) {
    return refuse("must have 1, 2, 4 or 8 for the bytes of its length, such as length:4");
  }
  const whole = (field: string, min: number, max: number, fallback: number): number => {
    const value = given[field] === undefined ? fallback : given[field];
    const fits = typeof value === "number" && Number.isInteger(value) && value >= min &&
      value <= max;
    return fits ? value : refuse(`must have an integer from ${min} to ${max} for ${field}`);
  };
  const header = given["header"] === undefined ? NOTHING : bytes("header");
  const trailer = given["trailer"] === undefined ? NOTHING : bytes("trailer");
  const adjust = whole("adjust", -65_536, 65_536, 0);
  if (2 ** (8 * size) - 1 + adjust <= trailer.length) {
    return refuse(`must have an adjust that leaves room for a packet: ${adjust} is too little`);
  }
  const littleEndian = given["littleEndian"] ?? false;
  if (typeof littleEndian !== "boolean") return refuse("must have true or false for littleEndian");
  return {
    bytes: size,
    littleEndian,
    header,
    trailer,
    offset: whole("offset", header.length, 255, header.length),
    adjust,
  };
}

/** A length that takes no bytes, because it is always the same. */
function fixedLayout(size: unknown, refuse: Refuse): LengthLayout {
  const fits = typeof size === "number" && Number.isInteger(size) && size >= 1 && size <= 65_536;
  const adjust = fits
    ? size
    : refuse("must have an integer from 1 to 65536 for its bytes, such as fixed:4");
  return { bytes: 0, littleEndian: false, offset: 0, adjust, header: NOTHING, trailer: NOTHING };
}

function namedCodec({ form, is = [] }: NamedFraming): Codec {
  if (form === "octet-counting" || form === "syslog") {
    return new OctetCountingCodec(form, form === "syslog");
  }
  if (form === "chunks") return chunksCodec();
  const refuse: Refuse = (rule) => {
    throw new TypeError(`${form} ${rule}`);
  };
  const codecs = is.map((text) => codecOfText(text, refuse, form));
  const [only, ...more] = codecs;
  if (only !== undefined && more.length === 0) return only;
  const layouts = codecs.flatMap((codec) => codec instanceof LengthCodec ? codec.layouts : []);
  return new LengthCodec(layouts.map(({ spec }) => spec), form);
}

for (const named of NAMED_FRAMINGS) codecs.set(named.form, namedCodec(named));
