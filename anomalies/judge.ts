/**
 * What a run must not show.
 *
 * @module
 */

import type { Told } from "./child.ts";

/** A sender's life, from outside. */
export interface Life {
  /** How many it was to store. */
  readonly packets: number;
  /** What it said, in order. */
  readonly told: readonly Told[];
  /** Its exit code; 128 and more: a signal. */
  readonly code: number;
  /** Its standard error. */
  readonly words: string;
  /** The numbers of the packets that each connection brought. */
  readonly connections: readonly (readonly number[])[];
  /** What its queue held afterwards. */
  readonly kept: readonly number[];
  /** What then arrived at another server. */
  readonly rest: readonly number[];
  /** Why its queue could not be used afterwards, or not be emptied. */
  readonly broken?: string;
}

/** By `timeout --signal=KILL`. */
const HUNG = 128 + 9;
/** Names of errors that say nothing: a slip in our code, or an error that nobody has named. */
const UNNAMED = /^(Error|TypeError|RangeError|ReferenceError|SyntaxError|AggregateError)$/;

/** Broken promises, in words. */
export function violationsOf(life: Life): string[] {
  return [...ofPackets(life), ...ofEnd(life)];
}

/** Whether the runtime gave up, and not the sender: then only its packets are judged. */
export function runtimeAborted({ code, words }: Life): boolean {
  return (code >= 128 && code !== HUNG) || words.includes("Deno has panicked");
}

function* ofPackets({ told, packets, connections, kept, rest, broken }: Life): Generator<string> {
  if (broken !== undefined) yield `the queue is not to be used afterwards: ${broken}`;
  const arrived = new Set([...connections.flat(), ...rest]);
  for (const one of told) {
    if ("stored" in one && !arrived.has(one.stored)) {
      yield kept.includes(one.stored)
        ? `packet ${one.stored} is in the queue and does not arrive`
        : `packet ${one.stored} was stored, has not arrived and is not in the queue`;
    }
    if ("refused" in one && one.outcome === "nothing-stored") {
      const there = arrived.has(one.refused) || kept.includes(one.refused);
      if (there) yield `packet ${one.refused} was refused as not stored, and is there`;
    }
  }
  for (const [index, numbers] of [...connections, rest].entries()) {
    const where = index === connections.length ? "the rest" : `connection ${index + 1}`;
    if (numbers.some((number) => !(number < packets))) yield `${where} brings what nobody sent`;
    if (numbers.some((number, at) => at > 0 && number <= (numbers[at - 1] ?? 0))) {
      yield `${where} is out of order: ${numbers.join(" ")}`;
    }
  }
}

function* ofEnd(life: Life): Generator<string> {
  const { told, packets, code, words, connections, kept } = life;
  if (code === HUNG) yield "it does not end";
  const uncaught = /^.*Uncaught.*$/m.exec(words);
  if (uncaught !== null) yield `an error that nobody caught: ${uncaught[0]}`;
  if (code === 0) {
    const stored = told.filter((one) => "stored" in one).length;
    const arrived = new Set(connections.flat());
    if (stored < packets || arrived.size < packets || kept.length > 0) {
      yield `exit code 0, with ${stored} stored, ${arrived.size} arrived, ${kept.length} kept`;
    }
  } else if (!runtimeAborted(life) && code !== HUNG) {
    const reasons = told.flatMap((one) =>
      "failed" in one ? [one.failed] : "refused" in one ? [one.error] : []
    );
    for (const { name, message } of reasons) {
      if (UNNAMED.test(name) || message === "") {
        yield `an error without a name: ${name}: ${message}`;
      }
    }
    // What is kept needs a reason as well: in the log.
    if (reasons.length === 0 && words === "") yield `exit code ${code} without a word`;
  }
}
