/** The options of what confirms a packet. */

import { InvalidArgumentError } from "commander";
import { ANSWER_OPTIONS } from "../../base/option_table.ts";
import type { Framing } from "../../framing/framing.ts";
import type { SenderOptions } from "../../sender/options.ts";
import { UsageError } from "../terminal/exit_code.ts";
import { flagOf, givenOf } from "../terminal/flags.ts";
import type { OptionAdder } from "./option_adder.ts";
import { parseRegExp, unescape } from "./session.ts";
import { checkedFraming } from "./values.ts";

/** Stands before the names of these options. */
export const CONFIRM = "confirm.";

/** The options of confirmation, parsed; see `AnswerOptions`. */
export interface AnswerCommandOptions {
  readonly confirm: "kernel" | "reader" | "answer";
  readonly answerFraming?: Framing;
  readonly accepted?: Uint8Array | RegExp;
  readonly refused?: Uint8Array | RegExp;
  readonly packetKey?: RegExp;
}

export function addAnswerOptions(options: OptionAdder): void {
  options.group("Confirmation")
    .choice(
      "--confirm <by>",
      "what confirms a packet: the server's kernel and --hold, its program that has read it " +
        "(tls://, and unix: by itself), or an answer of its program",
      ["kernel", "reader", "answer"],
      "kernel",
    )
    .value(
      "--answer-framing <framing>",
      "how answers are told apart in what the server sends (default: lines)",
      checkedFraming,
    )
    .value(
      "--accepted <text>",
      "an answer that accepts the next packet begins with it; /REGEXP/ to search",
      parsePattern,
    )
    .value("--refused <text>", "one that refuses it", parsePattern)
    .value(
      "--packet-key </regexp/>",
      "where answers name packets: (?<key>…) here, in --accepted and in --refused",
      parseKey,
    )
    .table(ANSWER_OPTIONS, {}, CONFIRM);
}

/**
 * The confirmation that was asked for.
 *
 * @throws {UsageError} Options contradict each other.
 */
export function confirmationOf(
  options: AnswerCommandOptions,
): Pick<SenderOptions, "confirm"> {
  const { confirm, answerFraming, accepted, refused, packetKey } = options;
  const limits = givenOf(ANSWER_OPTIONS, options, CONFIRM);
  if (confirm === "answer") {
    if (accepted === undefined) {
      throw new UsageError("--confirm answer needs --accepted: what an answer is that accepts");
    }
    return {
      confirm: {
        ...limits,
        framing: answerFraming ?? "lines",
        accepted,
        ...(refused === undefined ? {} : { refused }),
        ...(packetKey === undefined ? {} : { keyOf: packetKey }),
      },
    };
  }
  const first = Object.entries(ANSWER_OPTIONS).find(([name]) => name in limits)?.[1];
  const given = Object.entries({
    "--answer-framing": answerFraming,
    "--accepted": accepted,
    "--refused": refused,
    "--packet-key": packetKey,
  }).find(([, value]) => value !== undefined)?.[0];
  const alone = given ?? (first && flagOf(first));
  if (alone !== undefined) throw new UsageError(`${alone} needs --confirm answer`);
  return confirm === "reader" ? { confirm } : {};
}

function parsePattern(text: string): Uint8Array | RegExp {
  return parseRegExp(text) ?? unescape(text);
}

function parseKey(text: string): RegExp {
  const pattern = parseRegExp(text);
  if (pattern !== undefined) return pattern;
  throw new InvalidArgumentError("It must be a /REGEXP/ with a group named key: (?<key>…).");
}
