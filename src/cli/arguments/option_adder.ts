/**
 * How options are added to a command, and how the values of the library's options are written on
 * the command line.
 */

import { type Command, InvalidArgumentError, Option } from "commander";
import { type OptionSpec, type OptionTable, ruleOf, takes } from "../../base/options.ts";
import { type Framing, FRAMING_NAMES } from "../../framing/framing.ts";
import { formatCount } from "../terminal/figures.ts";
import {
  checkedFraming,
  parseCount,
  parseDuration,
  parseDurationOrNever,
  parseSize,
  writeDuration,
  writeSize,
} from "./values.ts";

/** An option whose value has the library's name. */
class LibraryOption extends Option {
  readonly #name: string;

  constructor(name: string, flags: string, description: string) {
    super(flags, description);
    this.#name = name;
  }

  override attributeName(): string {
    return this.#name;
  }
}

export class OptionAdder {
  readonly #command: Command;

  constructor(command: Command) {
    this.#command = command;
  }

  group(name: string): this {
    this.#command.optionsGroup(`${name}:`);
    return this;
  }

  /**
   * The options of a table that have flags, read and checked as the table says.
   *
   * @param preset What the command passes on where nothing is given. For the others
   *   the help names the library's default, and the library fills it in. `undefined`: what
   *   counts then is no value that could be given.
   * @param prefix Stands before their names in what was parsed.
   */
  table(
    table: OptionTable,
    preset: { readonly [name: string]: number | string | undefined } = {},
    prefix = "",
  ): this {
    for (const [name, spec] of Object.entries(table)) {
      if (spec.flags === undefined) continue;
      const words = name in preset ? undefined : defaultInWords(spec);
      const help = words === undefined ? spec.help : `${spec.help} (default: ${words})`;
      const option = new LibraryOption(prefix + name, spec.flags, help);
      if (spec.type === "choice") option.choices(spec.choices);
      else if (spec.type === "texts") option.argParser<string[]>(appended);
      else if (spec.type !== "switch") option.argParser((text) => parseValue(spec, text));
      const fallback = preset[name];
      if (fallback !== undefined) option.default(fallback, valueInWords(spec, fallback));
      this.#command.addOption(option);
    }
    return this;
  }

  /** An option that is given or not, or that takes any text. */
  flag(flags: string, description: string): this {
    this.#command.addOption(new Option(flags, description));
    return this;
  }

  /** An option without which the command does not run. */
  required<T>(
    flags: string,
    description: string,
    parse?: (text: string, earlier?: T) => T,
  ): this {
    const option = new Option(flags, description).makeOptionMandatory();
    this.#command.addOption(parse === undefined ? option : option.argParser<T>(parse));
    return this;
  }

  /** An option that takes a value, with its default where that is ours to know. */
  value<T>(
    flags: string,
    description: string,
    parse: (text: string, earlier?: T) => T,
    fallback?: readonly [value: T, words: string],
  ): this {
    const option = new Option(flags, description).argParser<T>(parse);
    this.#command.addOption(fallback === undefined ? option : option.default(...fallback));
    return this;
  }

  /**
   * An option that takes a framing.
   *
   * @param others Words that it takes besides.
   */
  framing(
    flags: string,
    description: string,
    fallback?: Framing | "none",
    others: readonly string[] = [],
  ): this {
    const option = new Option(flags, `${description}; see Framings below`)
      // They are completed, and are not all that it takes.
      .choices([...FRAMING_NAMES, ...others])
      .argParser((text) => others.includes(text) ? text : checkedFraming(text));
    this.#command.addOption(fallback === undefined ? option : option.default(fallback));
    return this;
  }

  choice(flags: string, description: string, choices: readonly string[], fallback?: string): this {
    const option = new Option(flags, description).choices(choices);
    this.#command.addOption(fallback === undefined ? option : option.default(fallback));
    return this;
  }
}

/** One more of an option that may be given several times. */
export function appended(text: string, earlier: string[] = []): string[] {
  return [...earlier, text];
}

/** @throws {InvalidArgumentError} It is none; says what is expected. */
export function parseValue(spec: OptionSpec, text: string): number | string {
  const value = parserOf(spec)(text);
  if (takes(spec, value)) return value;
  throw new InvalidArgumentError(`It ${ruleInWords(spec)}.`);
}

/** What an option takes, as it is written on the command line. */
export function ruleInWords(spec: OptionSpec): string {
  return ruleOf(spec, (value) => {
    // Only a time has a word for it.
    return value === Infinity && spec.type !== "duration" ? undefined : valueInWords(spec, value);
  });
}

function parserOf(spec: OptionSpec): (text: string) => number | string {
  switch (spec.type) {
    case "duration":
      return spec.endless ? parseDurationOrNever : parseDuration;
    case "size":
      return parseSize;
    case "count":
      return parseCount;
    default:
      return String;
  }
}

/** An option's default as the help says it; `undefined` where there is none to speak of. */
export function defaultInWords(spec: OptionSpec): string | undefined {
  if (spec.default === undefined || spec.type === "switch") return spec.otherwise;
  return valueInWords(spec, spec.default);
}

/** A value as it is written on the command line. */
export function valueInWords({ type }: OptionSpec, value: unknown): string {
  if (typeof value !== "number") return String(value);
  if (value === Infinity) return type === "duration" ? "never" : "no limit";
  return type === "duration"
    ? writeDuration(value)
    : type === "size"
    ? writeSize(value)
    : formatCount(value);
}
