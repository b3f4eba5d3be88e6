/** What a protocol answers to packets: how answers are told apart, and what each says. */

import { messageOf, OptionError } from "../base/errors.ts";
import { ANSWER_OPTIONS } from "../base/option_table.ts";
import { checkFields, type ResolvedOptions, resolveOptions } from "../base/options.ts";
import type { Framing } from "../framing/framing.ts";
import { framingWithEnds } from "../framing/grammar.ts";
import { PacketSplitter } from "../framing/splitter.ts";
import { endOf, latin1, type Pattern, quote, type ReadyPattern, toPattern } from "./pattern.ts";
import { givenAtOnce } from "./transform.ts";

/**
 * What tells a packet, and the answer to it, from others.
 *
 * @category Session
 */
export type AnswerKey = string | number;

/**
 * What an answer says, for a {@linkcode JudgeAnswer}.
 *
 * - `"accepted"`: the next packet that waits for an answer is the server's now; with
 *   `packets` so many of them, with `"all"` every one that the server has received
 * - `"refused"`: the server does not want the next packet
 * - `"ignored"`: it is no answer to a packet
 *
 * With a `key` it is about the packet with that key, and with `through` about all packets
 * up to that one.
 *
 * @category Session
 */
export type AnswerVerdict =
  | "accepted"
  | "refused"
  | "ignored"
  | { readonly verdict: "accepted"; readonly packets?: number | "all" }
  | { readonly verdict: "accepted" | "refused"; readonly key: AnswerKey }
  | { readonly verdict: "accepted"; readonly through: AnswerKey };

/**
 * What surrounds an answer, for a {@linkcode JudgeAnswer}.
 *
 * @category Session
 */
export interface AnswerContext {
  /** `"192.0.2.7:4000"`. */
  readonly remoteAddress: string;
  /** How many packets of this connection wait for an answer. */
  readonly unansweredPackets: number;
}

/**
 * Says what an answer, without its framing, means. It must not wait; what it throws ends the
 * connection.
 *
 * @category Session
 */
export type JudgeAnswer = (answer: Uint8Array, context: AnswerContext) => AnswerVerdict;

/**
 * Confirmation by answers; see `SenderOptions.confirm`.
 *
 * @category Session
 * @example A server that answers each packet: one that it refuses becomes a dead letter
 * ```ts
 * import { OutboundQueue, Sender } from "@sendq/sendq";
 * import assert from "node:assert/strict";
 *
 * // A server that wants nothing but numbers, for this example.
 * const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
 * const served = (async () => {
 *   const client = await listener.accept();
 *   const buffer = new Uint8Array(64);
 *   for (let length; (length = await client.read(buffer)) !== null;) {
 *     const packet = new TextDecoder().decode(buffer.subarray(0, length));
 *     const answer = /^\d+\n$/.test(packet) ? "OK\n" : "ERROR no number\n";
 *     await client.write(new TextEncoder().encode(answer));
 *   }
 *   client.close();
 * })();
 *
 * const queue = await OutboundQueue.open(`${await Deno.makeTempDir()}/outbox.db`);
 * const sender = await Sender.open(queue, `tcp://127.0.0.1:${listener.addr.port}`, {
 *   confirm: { framing: "lines", accepted: "OK", refused: /^ERROR/ },
 * });
 * await sender.enqueue("21\n");
 * await sender.enqueue("warm\n");
 * await sender.drained(); // Both are answered.
 * await sender.close();
 *
 * const [letter] = await queue.deadLetters(0, 1000);
 * assert.equal(letter?.id, 2);
 * assert.equal(letter.words, '"ERROR no number"');
 * await queue.close();
 * await served;
 * listener.close();
 * ```
 */
export interface AnswerConfirmation {
  /** How answers are told apart: `"lines"`, `"mllp"`, any but `"chunks"`. */
  readonly framing: Framing;
  /**
   * An answer that accepts: what it begins with, or a `RegExp` that is found in it, whose group
   * named `key` is the answer's key.
   */
  readonly accepted?: Pattern;
  /** One that refuses; looked at before `accepted`, and with a `key` as well. */
  readonly refused?: Pattern;
  /** In place of the two patterns. */
  readonly judge?: JudgeAnswer;
  /**
   * The key of a packet, from its bytes on the wire: a function, or a `RegExp` with a group
   * named `key`. Needed where answers have keys. A packet without one becomes a dead letter.
   */
  readonly keyOf?: RegExp | ((packet: Uint8Array) => AnswerKey | undefined);
  /**
   * How many packets may wait for an answer: 1 is stop and wait; more need a server that
   * answers in order, or keys.
   *
   * @default {1}
   */
  readonly maxUnanswered?: number;
  /**
   * How long an answer may take, in milliseconds, from the acknowledgement or the last answer
   * on. Then the connection is given up, and what is not answered is sent again.
   *
   * @default {10000}
   */
  readonly answerTimeoutMs?: number;
  /**
   * What becomes of a packet that the server refuses.
   *
   * - `"dead-letter"`: it becomes a dead letter with the server's words, and the next one
   *   has its turn
   * - `"retry"`: the connection is given up, and after a pause it and all that follow are sent
   *   again
   * - `"stop"`: the sender stops with a `PacketRefusedError`; the packet stays the first
   *
   * @default {"dead-letter"}
   */
  readonly onRefused?: "dead-letter" | "retry" | "stop";
  /**
   * With `"retry"`, the first ceiling of the pause, in milliseconds; it doubles up to
   * `retryCapMs` while nothing is accepted, and the pause is at least half of it.
   *
   * @default {5000}
   */
  readonly retryFirstMs?: number;
  /**
   * The highest ceiling.
   *
   * @default {60000}
   */
  readonly retryCapMs?: number;
}

/** What an answer says, in one form. */
export type Judgement =
  | { readonly kind: "accepted"; readonly packets: number }
  | { readonly kind: "accepted" | "refused"; readonly key: AnswerKey }
  | { readonly kind: "accepted-through"; readonly key: AnswerKey }
  | { readonly kind: "refused" }
  | { readonly kind: "ignored" };

/** A checked {@linkcode AnswerConfirmation}. */
export interface AnswerPlan extends ResolvedOptions<typeof ANSWER_OPTIONS> {
  /** The key of a packet on the wire; undefined: packets have none. */
  readonly keyOf: ((packet: Uint8Array) => AnswerKey) | undefined;
  /** For the answers of one connection. */
  readonly cutter: () => AnswerCutter;
  /** @throws {TypeError} The user's function does not say what an answer means. */
  readonly judge: (answer: Uint8Array, context: AnswerContext) => Judgement;
}

/** Cuts answers, without their framing, out of what a server sends. */
export interface AnswerCutter {
  /** Takes bytes; gives the answers that they complete. */
  push(chunk: Uint8Array): readonly Uint8Array[];
  /** What is wrong with the stream; nothing more comes of it. */
  readonly fault: Error | undefined;
  /** Bytes taken in of an answer that is not whole yet. */
  readonly unfinishedBytes: number;
}

/** A larger one is a stream in another framing. */
const MAX_ANSWER_BYTES = 64 * 1024;
/** How much of a refusal is kept with a dead letter. */
const KEPT_WORDS_BYTES = 1000;

/** A server's words, for a dead letter. */
export function wordsOf(answer: Uint8Array): string {
  return quote(answer, KEPT_WORDS_BYTES);
}

/** @throws {OptionError} It does not say what an answer means. */
export function answerPlanOf(confirm: AnswerConfirmation): AnswerPlan {
  if (typeof confirm !== "object" || confirm === null) {
    throw new OptionError("confirm", confirm, 'must be "kernel", or an object that says how');
  }
  checkFields("confirm", confirm, [
    ...["framing", "accepted", "refused", "judge", "keyOf"],
    ANSWER_OPTIONS,
  ]);
  const { framing } = confirm;
  const limits = resolveOptions(ANSWER_OPTIONS, confirm, "confirm.");
  if (framing === undefined) {
    throw new OptionError("confirm.framing", framing, "is needed: it says where an answer ends");
  }
  framingWithEnds(framing, "confirm.framing");
  return {
    ...limits,
    retryCapMs: Math.max(limits.retryFirstMs, limits.retryCapMs),
    keyOf: keyFunctionOf(confirm.keyOf),
    cutter: () =>
      new PacketSplitter({ input: framing, maxPacketBytes: MAX_ANSWER_BYTES, payloadsOnly: true }),
    judge: judgeOf(confirm),
  };
}

function keyFunctionOf(keyOf: AnswerConfirmation["keyOf"]): AnswerPlan["keyOf"] {
  const name = "confirm.keyOf";
  if (keyOf === undefined) return undefined;
  if (typeof keyOf === "function") {
    return (packet) => keyFrom(givenAtOnce(keyOf(packet), "keyOf"), "keyOf");
  }
  if (!(keyOf instanceof RegExp)) {
    throw new OptionError(name, keyOf, "must be a function, or a RegExp with a group named key");
  }
  if (!hasKey(keyOf)) {
    throw new OptionError(name, String(keyOf), "must have a group named key: (?<key>…)");
  }
  const pattern = toPattern(keyOf) as RegExp;
  return (packet) => {
    const key = pattern.exec(latin1(packet))?.groups?.["key"];
    if (key === undefined) throw new TypeError(`${pattern} does not match it`);
    return key;
  };
}

/** Keys are compared as text: what a RegExp finds in an answer is text. */
function keyFrom(key: unknown, who: string): string {
  if (typeof key === "string" || (typeof key === "number" && !Number.isNaN(key))) {
    return String(key);
  }
  throw new TypeError(`${who} gave no key: it must be text or a number`);
}

function hasKey(pattern: unknown): boolean {
  return pattern instanceof RegExp && /\(\?<key>/.test(pattern.source);
}

function judgeOf(
  { accepted, refused, judge, keyOf }: AnswerConfirmation,
): AnswerPlan["judge"] {
  const keys = keyOf !== undefined;
  if (judge !== undefined) {
    if (typeof judge !== "function") {
      throw new OptionError("confirm.judge", judge, "must be a function");
    }
    if (accepted !== undefined || refused !== undefined) {
      throw new OptionError("confirm.judge", judge, "stands in place of accepted and refused");
    }
    return (answer, context) => {
      let verdict: unknown;
      try {
        verdict = givenAtOnce(judge(answer, context), "it");
      } catch (error) {
        throw new TypeError(`the judge of answers failed: ${messageOf(error)}`, { cause: error });
      }
      return judgementOf(verdict, keys);
    };
  }
  if (accepted === undefined) {
    throw new OptionError(
      "confirm.accepted",
      accepted,
      "is needed: without it, or a judge, no packet is ever confirmed",
    );
  }
  for (const [name, pattern] of Object.entries({ accepted, refused })) {
    if (pattern === undefined) continue;
    const isBytes = typeof pattern === "string" || pattern instanceof Uint8Array;
    if (isBytes ? pattern.length === 0 : !(pattern instanceof RegExp)) {
      throw new OptionError(`confirm.${name}`, pattern, "must be text, bytes or a RegExp");
    }
    if (hasKey(pattern) !== keys) {
      throw new OptionError(
        `confirm.${name}`,
        String(pattern),
        keys
          ? "must have a group named key, (?<key>…), because packets have keys"
          : "has a group named key: confirm.keyOf has to say which a packet has",
      );
    }
  }
  const accepts = toPattern(accepted);
  const refuses = refused === undefined ? undefined : toPattern(refused);
  return (answer) =>
    (refuses && matchOf(refuses, answer, "refused")) ??
      matchOf(accepts, answer, "accepted") ?? { kind: "ignored" };
}

function matchOf(
  pattern: ReadyPattern,
  answer: Uint8Array,
  kind: "accepted" | "refused",
): Judgement | undefined {
  if (pattern instanceof RegExp) {
    const found = pattern.exec(latin1(answer));
    if (found === null) return undefined;
    const key = found.groups?.["key"];
    if (key !== undefined) return { kind, key };
  } else if (typeof endOf(pattern, answer) !== "number") return undefined;
  return kind === "accepted" ? { kind, packets: 1 } : { kind };
}

function judgementOf(given: unknown, keys: boolean): Judgement {
  const fields: Record<string, unknown> = typeof given === "object" && given !== null
    ? { ...given }
    : { verdict: given };
  const { verdict, key, through, packets } = fields;
  if (verdict === "ignored") return { kind: "ignored" };
  const isKnown = verdict === "accepted" || verdict === "refused";
  const isKeyed = key !== undefined || through !== undefined;
  if (isKnown && isKeyed && !keys) {
    throw new TypeError("the judge named a key, and no keyOf says which key a packet has");
  }
  // What was looked for and not found: the next packet is not meant.
  const hasLostKey = keys && !isKeyed && ("key" in fields || "through" in fields);
  if (isKnown && (key !== undefined || hasLostKey)) {
    return { kind: verdict, key: keyFrom(key, "the judge") };
  }
  if (verdict === "accepted" && through !== undefined) {
    return { kind: "accepted-through", key: keyFrom(through, "the judge") };
  }
  if (verdict === "refused" && through === undefined && packets === undefined) {
    return { kind: "refused" };
  }
  const count = packets === "all" ? Infinity : packets ?? 1;
  const isCount = typeof count === "number" && count >= 0 &&
    (Number.isInteger(count) || count === Infinity);
  if (verdict === "accepted" && isCount) return { kind: "accepted", packets: count };
  throw new TypeError("the judge gave none of the verdicts that there are");
}
