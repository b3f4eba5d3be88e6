/**
 * What an option is, as data, from which come the checks and defaults here, the flags and the
 * help of the command, and the pages of `docs/`. The options themselves: `option_table.ts`.
 *
 * No schema library: a user of this one loads nothing for it.
 */

import { OptionError } from "./errors.ts";

/** The longest time that an option takes: a timer of JavaScript ends at 24.8 days. */
const LONGEST_MS = 24 * 86_400_000;

/** For times that are compared with the clock, and that no timer has to wait for. */
export const NO_TIMER = Number.MAX_SAFE_INTEGER;

interface Described {
  /** The command's flag with its value; left out where the command has none. */
  readonly flags?: string;
  /** What it is for, in one line. */
  readonly help: string;
  /** What stands for the default where there is no value for it. */
  readonly otherwise?: string;
}

/** An option that takes milliseconds, bytes, or a number of something. */
export interface NumberOption extends Described {
  readonly type: "duration" | "size" | "count";
  readonly min: number;
  /** The most that it takes, besides `Infinity`. */
  readonly max: number;
  /** Whether `min` itself is too little. */
  readonly aboveMin?: true;
  /** Whether it takes `Infinity`, too. */
  readonly endless?: true;
  /** Whether it may have a fraction. */
  readonly fraction?: boolean;
  /** What it has to be a multiple of. */
  readonly step?: number;
  /** Why it takes no others. */
  readonly because?: string;
  readonly default?: number;
}

/** An option that takes one of a few words. */
export interface ChoiceOption<Choice extends string = string> extends Described {
  readonly type: "choice";
  readonly choices: readonly Choice[];
  readonly default: Choice;
}

/** An option that takes a short name of the kernel's, or one that is on or off. */
export interface PlainOption extends Described {
  readonly type: "name" | "switch";
  readonly default?: boolean;
}

/** An option that takes any text, or several. */
export interface TextOption extends Described {
  readonly type: "text" | "texts";
  /** What the library takes, where the flag takes the name of a file that holds it. */
  readonly holds?: string;
  readonly default?: undefined;
}

/** What an option takes. */
export type OptionSpec = NumberOption | ChoiceOption | PlainOption | TextOption;

/** Options by the names that the library has for them. */
export interface OptionTable {
  readonly [name: string]: OptionSpec;
}

type ValueOf<S> = S extends ChoiceOption<infer C> ? C
  : S extends { readonly type: "name" | "text" } ? string
  : S extends { readonly type: "texts" } ? readonly string[]
  : S extends { readonly type: "switch" } ? boolean
  : number;
type WithDefault<T> = { [K in keyof T]: T[K] extends { default: unknown } ? K : never }[keyof T];

/** The options of a table, checked; those with a default are always there. */
export type ResolvedOptions<T extends OptionTable> =
  & { readonly [K in WithDefault<T>]: ValueOf<T[K]> }
  & { readonly [K in Exclude<keyof T, WithDefault<T>>]?: ValueOf<T[K]> };

function numbers(kind: Pick<NumberOption, "type" | "min" | "max" | "fraction">) {
  return <const S extends Partial<NumberOption>>(
    flags: string | undefined,
    help: string,
    spec: S,
  ): NumberOption & S => ({ ...kind, ...(flags === undefined ? {} : { flags }), help, ...spec });
}

/** Milliseconds, 0 or more unless said otherwise. */
export const duration = numbers({ type: "duration", min: 0, max: LONGEST_MS, fraction: true });
/** Bytes, 1 or more unless said otherwise. */
export const size = numbers({ type: "size", min: 1, max: Number.MAX_SAFE_INTEGER });
/** A number of something, 1 or more unless said otherwise. */
export const count = numbers({ type: "count", min: 1, max: Number.MAX_SAFE_INTEGER });

/** One of a few words. */
export function choice<const C extends string>(
  flags: string,
  help: string,
  choices: readonly C[],
  fallback: NoInfer<C>,
): ChoiceOption<C> {
  return { type: "choice", flags, help, choices, default: fallback };
}

/** IFNAMSIZ and TCP_CA_NAME_MAX are 16, with the closing NUL. */
const MAX_NAME_BYTES = 15;
/** dev_valid_name() of the kernel; the names of congestion controls are plainer still. */
const NAME = /^[^\s/:\0]+$/;

/** Whether an option takes a value. */
export function takes(spec: OptionSpec, value: unknown): boolean {
  switch (spec.type) {
    case "choice":
      return spec.choices.some((choice) => choice === value);
    case "switch":
      return typeof value === "boolean";
    case "text":
      return isText(value);
    case "texts":
      return Array.isArray(value) && value.length > 0 && value.every(isText);
    case "name":
      return typeof value === "string" && NAME.test(value) &&
        new TextEncoder().encode(value).length <= MAX_NAME_BYTES;
    default: {
      const { min, max, aboveMin, endless, fraction, step = 1 } = spec;
      if (typeof value !== "number") return false;
      if (value === Infinity) return endless === true;
      return (aboveMin ? value > min : value >= min) && value <= max &&
        (fraction || value % step === 0);
    }
  }
}

function isText(value: unknown): boolean {
  return typeof value === "string" && value !== "";
}

/**
 * What an option takes, in words: `"must be an integer from 1 to 127"`.
 *
 * @param show Writes a time or a size with its unit, and any number as people read it;
 *   `undefined` for one that cannot be written. Plain numbers by default.
 */
export function ruleOf(
  spec: OptionSpec,
  show?: (value: number) => string | undefined,
): string {
  switch (spec.type) {
    case "choice":
      return `must be one of ${spec.choices.join(", ")}`;
    case "switch":
      return "must be true or false";
    case "text":
      return `must be ${spec.holds ?? "text"}, not empty`;
    case "texts":
      return `must be a list of ${spec.holds ?? "texts"}, not empty`;
    case "name":
      return `must be a name of 1 to ${MAX_NAME_BYTES} bytes without spaces, "/" and ":"`;
    default: {
      const { type, min, max, aboveMin, endless, fraction, step, because } = spec;
      const write = show ?? String;
      const plain = fraction || (show !== undefined && type !== "count");
      const kind = step !== undefined ? `a multiple of ${step} ` : plain ? "" : "an integer ";
      const range = aboveMin
        ? `more than ${write(min)}`
        : max < Number.MAX_SAFE_INTEGER
        ? `from ${write(min)} to ${write(max)}`
        : `${kind && "of "}${write(min)} or more`;
      const end = endless ? write(Infinity) : undefined;
      return `must be ${kind}${range}${end === undefined ? "" : `, or ${end}`}` +
        (because === undefined ? "" : `, because ${because}`);
    }
  }
}

/** @throws {OptionError} The option does not take the value. */
export function checkOption(name: string, spec: OptionSpec, value: unknown): void {
  if (!takes(spec, value)) throw new OptionError(name, value, ruleOf(spec));
}

/**
 * Checks what was given of a table's options, and fills in the defaults.
 *
 * @param given What is left out or `undefined` gets its default.
 * @param prefix Stands before their names in errors: `"keepAlive."`.
 * @throws {OptionError} An option does not take its value.
 */
export function resolveOptions<T extends OptionTable>(
  table: T,
  given: { readonly [K in keyof T]?: unknown },
  prefix?: string,
): ResolvedOptions<T>;
export function resolveOptions(
  table: OptionTable,
  given: { readonly [name: string]: unknown },
  prefix = "",
): Record<string, unknown> {
  const resolved: Record<string, unknown> = {};
  for (const [name, spec] of Object.entries(table)) {
    const value = given[name] === undefined ? spec.default : given[name];
    if (value === undefined) continue;
    checkOption(prefix + name, spec, value);
    resolved[name] = value;
  }
  return resolved;
}

/**
 * The same without defaults.
 *
 * @throws {OptionError} An option does not take its value.
 */
export function checkOptions<T extends OptionTable>(
  table: T,
  given: { readonly [K in keyof T]?: unknown },
  prefix = "",
): void {
  for (const [name, spec] of Object.entries(table)) {
    const value: unknown = given[name];
    if (value !== undefined) checkOption(prefix + name, spec, value);
  }
}

/**
 * Checks that options are an object with fields that there are: a misspelt name would be a login
 * that never happens, or a limit that nobody keeps to.
 *
 * @param name What errors call the object; empty: its fields have names of their own.
 * @param known All that there are, also as tables.
 * @param places Tables that are fields of it: what belongs into one of them.
 * @throws {OptionError} It is none, or has others.
 */
export function checkFields(
  name: string,
  value: unknown,
  known: readonly (string | OptionTable)[],
  places: { readonly [field: string]: OptionTable } = {},
): void {
  if (typeof value !== "object" || value === null) {
    throw new OptionError(name || "options", value, "must be an object");
  }
  for (const field of Object.keys(value)) {
    if (known.some((one) => typeof one === "string" ? one === field : Object.hasOwn(one, field))) {
      continue;
    }
    const names = known.flatMap((one) => typeof one === "string" ? [one] : Object.keys(one));
    const place = Object.keys(places).find((place) => Object.hasOwn(places[place] ?? {}, field));
    const near = names.find((known) => isNear(known, field));
    const rule = place !== undefined
      ? `belongs into ${place}`
      : near !== undefined
      ? `is no option (is ${near} meant?)`
      : `is none of ${names.join(", ")}`;
    // Not its value: that may be a secret.
    throw new OptionError(name === "" ? field : `${name}.${field}`, null, rule);
  }
}

/**
 * Whether one name may be meant by another: the same letters, or the unit left out, or one letter
 * more, less or changed.
 */
export function isNear(known: string, name: string): boolean {
  const plain = (text: string) => text.toLowerCase().replaceAll(/[^a-z0-9]/g, "");
  const [a, b] = [plain(known), plain(name)];
  if (a === b || (b.length > 2 && a.replace(/(ms|bytes)$/, "") === b)) return true;
  let same = 0;
  while (same < a.length && a[same] === b[same]) same++;
  const rest = [a.slice(same), b.slice(same)] as const;
  return b.length > 3 &&
    (rest[0].slice(1) === rest[1] || rest[0] === rest[1].slice(1) ||
      rest[0].slice(1) === rest[1].slice(1));
}
