/** The options of a session: what opens it, heartbeats, a goodbye. */

import { InvalidArgumentError } from "commander";
import { messageOf } from "../../base/errors.ts";
import { HEARTBEAT_OPTIONS, SESSION_OPTIONS } from "../../base/option_table.ts";
import type { Framing } from "../../framing/framing.ts";
import type { Heartbeat, Session, SessionStep } from "../../session/session.ts";
import { UsageError } from "../terminal/exit_code.ts";
import { flagOf, givenOf } from "../terminal/flags.ts";
import { readFor } from "../terminal/stdio.ts";
import type { OptionAdder } from "./option_adder.ts";
import { checkedFraming } from "./values.ts";

/** Stands before the names of a session's options. */
export const SESSION = "session.";
/** Stands before the names of a heartbeat's options. */
export const HEARTBEAT = "session.heartbeat.";
const LINE_FEED = 10;

/** Bytes that were typed, or the file that has them; where an answer is meant, a `RegExp`, too. */
export type Typed = Uint8Array | RegExp | { readonly file: string };

/** One of the four flags that steps are made of, in the order in which they were given. */
type StepFlag =
  | { readonly what: "send" | "expect" | "refuse"; readonly typed: Typed }
  | { readonly what: "framing"; readonly framing: Framing };

/** A step as a route file has it; see `SessionStep`. */
export interface TypedStep {
  readonly send?: Typed;
  readonly expect?: Typed;
  readonly refuse?: Typed;
  readonly framing?: Framing;
  readonly timeoutMs?: number;
}

/** The options of a session, parsed. The first four have one list, in the order of all of them. */
export interface SessionCommandOptions {
  readonly sessionSend?: readonly StepFlag[];
  readonly sessionExpect?: readonly StepFlag[];
  readonly sessionRefuse?: readonly StepFlag[];
  readonly sessionFraming?: readonly StepFlag[];
  /** The steps of a route file; those of the command line stand in their place. */
  readonly sessionOpen?: readonly TypedStep[];
  readonly heartbeat?: Typed;
  readonly heartbeatExpect?: Typed;
  readonly goodbye?: Typed;
}

export function addSessionOptions(options: OptionAdder): void {
  const steps: StepFlag[] = [];
  const step = (what: "send" | "expect" | "refuse") => (text: string): readonly StepFlag[] => {
    steps.push({ what, typed: what === "send" ? parseBytes(text) : parsePattern(text) });
    return steps;
  };
  options.group("Session, on each connection")
    .value(
      "--session-send <text>",
      "first send this: AUTH x\\r\\n, or @FILE for a secret; in order with the next three",
      step("send"),
    )
    .value(
      "--session-expect <text>",
      "what the server has to answer before anything else is sent; /REGEXP/ to search",
      step("expect"),
    )
    .value(
      "--session-refuse <text>",
      "an answer that is a refusal, for the --session-expect before it",
      step("refuse"),
    )
    .value(
      "--session-framing <framing>",
      "how that answer ends, where it is a whole message; see Framings below",
      (text) => {
        steps.push({ what: "framing", framing: checkedFraming(text) });
        return steps;
      },
    )
    .value("--heartbeat <text>", "in quiet times send this", parseBytes)
    .value("--heartbeat-expect <text>", "what it is answered by", parsePattern)
    .table(HEARTBEAT_OPTIONS, {}, HEARTBEAT)
    .value("--goodbye <text>", "send this before the connection is ended in order", parseBytes)
    .table(SESSION_OPTIONS, {}, SESSION);
}

export function sessionFiles(options: SessionCommandOptions): string[] {
  const { heartbeat, heartbeatExpect, goodbye } = options;
  const flags = stepFlagsOf(options);
  const steps = flags === undefined
    ? (options.sessionOpen ?? []).flatMap(({ send, expect, refuse }) => [send, expect, refuse])
    : flags.map((flag) => flag.what === "framing" ? undefined : flag.typed);
  return [...steps, heartbeat, heartbeatExpect, goodbye]
    .flatMap((typed) => typed !== undefined && "file" in typed ? [typed.file] : []);
}

/**
 * The session that was asked for; undefined: none.
 *
 * @throws {UsageError} Options contradict each other, or a file cannot be read.
 */
export function sessionOf(options: SessionCommandOptions): Session | undefined {
  const flags = stepFlagsOf(options);
  const open = flags === undefined ? (options.sessionOpen ?? []).map(readyStep) : stepsOf(flags);
  const heartbeat = heartbeatOf(options);
  const limits = givenOf(SESSION_OPTIONS, options, SESSION);
  const { goodbye } = options;
  const session: Session = {
    ...limits,
    ...(open.length === 0 ? {} : { open }),
    ...(heartbeat === undefined ? {} : { heartbeat }),
    ...(goodbye === undefined ? {} : { close: bytesOf(goodbye) }),
  };
  return Object.keys(session).length === 0 ? undefined : session;
}

function stepFlagsOf(options: SessionCommandOptions): readonly StepFlag[] | undefined {
  const { sessionSend, sessionExpect, sessionRefuse, sessionFraming } = options;
  return sessionSend ?? sessionExpect ?? sessionRefuse ?? sessionFraming;
}

function readyStep({ send, expect, refuse, ...limits }: TypedStep): SessionStep {
  return {
    ...limits,
    ...(send === undefined ? {} : { send: bytesOf(send) }),
    ...(expect === undefined ? {} : { expect: patternOf(expect) }),
    ...(refuse === undefined ? {} : { refuse: patternOf(refuse) }),
  };
}

/** A send begins a step, and what is expected next ends it; what belongs to that comes behind. */
function stepsOf(flags: readonly StepFlag[]): SessionStep[] {
  const steps: SessionStep[] = [];
  for (const flag of flags) {
    const last = steps.at(-1);
    if (flag.what === "send") steps.push({ send: bytesOf(flag.typed) });
    else if (flag.what === "expect") {
      const isFree = last !== undefined && last.expect === undefined;
      const step = { ...(isFree ? last : {}), expect: patternOf(flag.typed) };
      steps.splice(isFree ? -1 : steps.length, 1, step);
    } else if (last?.expect === undefined || last[flag.what] !== undefined) {
      throw new UsageError(`--session-${flag.what} belongs behind a --session-expect, once`);
    } else {
      const more = flag.what === "framing"
        ? { framing: flag.framing }
        : { refuse: patternOf(flag.typed) };
      steps.splice(-1, 1, { ...last, ...more });
    }
  }
  return steps;
}

function heartbeatOf(options: SessionCommandOptions): Heartbeat | undefined {
  const { heartbeat, heartbeatExpect } = options;
  const limits = givenOf(HEARTBEAT_OPTIONS, options, HEARTBEAT);
  if (heartbeat !== undefined) {
    return {
      ...limits,
      send: bytesOf(heartbeat),
      ...(heartbeatExpect === undefined ? {} : { expect: patternOf(heartbeatExpect) }),
    };
  }
  const first = Object.entries(HEARTBEAT_OPTIONS).find(([name]) => name in limits)?.[1];
  const alone = heartbeatExpect !== undefined ? "--heartbeat-expect" : first && flagOf(first);
  if (alone !== undefined) throw new UsageError(`${alone} needs --heartbeat`);
  return undefined;
}

/** Text with escapes, or `@FILE`. */
function parseBytes(text: string): Uint8Array | { readonly file: string } {
  if (text.startsWith("@") && text.length > 1) return { file: text.slice(1) };
  return unescape(text);
}

/** The same, or `/REGEXP/`. */
function parsePattern(text: string): Typed {
  return parseRegExp(text) ?? parseBytes(text);
}

/**
 * Reads `/REGEXP/`.
 *
 * @returns `undefined`: the text is none.
 * @throws {InvalidArgumentError} It cannot be understood.
 */
export function parseRegExp(text: string): RegExp | undefined {
  if (!text.startsWith("/")) return undefined;
  const [, source] = /^\/(.+)\/$/s.exec(text) ?? [];
  if (source === undefined) {
    // Taken as text, /^250/m would wait for just these characters.
    throw new InvalidArgumentError(
      "Expected /REGEXP/, without flags: (?m:^250) is one inside. Text that begins with / is \\x2f.",
    );
  }
  return regExpOf(source);
}

/** @throws {InvalidArgumentError} It cannot be understood. */
export function regExpOf(source: string): RegExp {
  try {
    return new RegExp(source);
  } catch (error) {
    throw new InvalidArgumentError(`${messageOf(error)}.`);
  }
}

const ESCAPES: ReadonlyMap<string, number> = new Map([
  ["r", 13],
  ["n", 10],
  ["t", 9],
  ["0", 0],
  ["\\", 92],
]);

/**
 * The bytes of a text, in which `\r`, `\n`, `\t`, `\0`, `\\` and `\xHH` stand for one byte.
 *
 * @throws {InvalidArgumentError} There is nothing, or another escape.
 */
export function unescape(text: string): Uint8Array {
  if (text === "") throw new InvalidArgumentError("It must be at least one byte.");
  const bytes: number[] = [];
  const encoder = new TextEncoder();
  for (const [part] of text.matchAll(/\\x[0-9a-fA-F]{2}|\\.?|[^\\]+/gs)) {
    const byte = part.startsWith("\\x") && part.length === 4
      ? parseInt(part.slice(2), 16)
      : ESCAPES.get(part.slice(1));
    if (!part.startsWith("\\")) { for (const plain of encoder.encode(part)) bytes.push(plain); }
    else if (byte !== undefined) bytes.push(byte);
    else {
      throw new InvalidArgumentError(
        `There is no ${part}: \\r, \\n, \\t, \\0, \\\\ and \\xHH are bytes, \\\\ is a backslash.`,
      );
    }
  }
  return Uint8Array.from(bytes);
}

function bytesOf(typed: Typed): Uint8Array {
  const pattern = patternOf(typed);
  if (pattern instanceof RegExp) throw new TypeError("A RegExp cannot be sent.");
  return pattern;
}

function patternOf(typed: Typed): Uint8Array | RegExp {
  return "file" in typed ? bytesIn(typed.file) : typed;
}

/** A file is taken byte for byte, but for the newline that editors put at the end. */
function bytesIn(path: string): Uint8Array {
  const bytes = readFor(path, `the file ${path} (a text that begins with @ is written \\x40)`);
  const text = bytes.at(-1) === LINE_FEED && bytes.at(-2) !== 13 ? bytes.subarray(0, -1) : bytes;
  if (text.length === 0) throw new UsageError(`the file ${path} is empty`);
  return text;
}
