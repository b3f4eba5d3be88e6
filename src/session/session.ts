/**
 * What a protocol wants on each connection beside its packets: something at the begin, in quiet
 * times, at the end. It is not stored, not counted, and confirms nothing.
 */

import { OptionError } from "../base/errors.ts";
import { HEARTBEAT_OPTIONS, SESSION_OPTIONS } from "../base/option_table.ts";
import { checkFields, type ResolvedOptions, resolveOptions } from "../base/options.ts";
import type { Framing } from "../framing/framing.ts";
import { framingWithEnds } from "../framing/grammar.ts";
import {
  type Bytes,
  hexOf,
  type Pattern,
  type ReadyPattern,
  toBytes,
  toPattern,
} from "./pattern.ts";
import type { ExpectOptions, SessionStream } from "./stream.ts";

/**
 * One step of opening a session: something is sent, something is expected, or both in
 * this order. A step that expects nothing is over once its bytes are written.
 *
 * @category Session
 */
export interface SessionStep extends ExpectOptions {
  /** What to send. It is never shown or logged: it may be a password. */
  readonly send?: Bytes;
  /** What the server has to answer. What has matched is taken; what follows is the next step's. */
  readonly expect?: Pattern;
}

/**
 * Opens a session: resolves when packets may follow.
 *
 * @category Session
 */
export type SessionFunction = (session: SessionStream) => Promise<void>;

/**
 * Bytes in quiet times, so that nobody takes a quiet connection for a dead one.
 *
 * @category Session
 */
export interface Heartbeat {
  /** The bytes; at least one. */
  readonly send: Bytes;
  /**
   * They are sent when nothing was for so long and everything is acknowledged, in
   * milliseconds. Never between the bytes of a packet.
   *
   * @default {30000}
   */
  readonly idleMs?: number;
  /**
   * What the server answers, looked for anywhere in what it sends from then on. Where answers
   * confirm packets, these wait until it has come, and what comes before it is about none of
   * them. Left out: nothing is expected.
   */
  readonly expect?: Pattern;
  /**
   * How long that may take, in milliseconds; the connection is given up then.
   *
   * @default {10000}
   */
  readonly answerTimeoutMs?: number;
}

/**
 * What happens on each connection beside its packets; see `SenderOptions.session`.
 *
 * @category Session
 * @example A login before the first packet, and a word at the end
 * ```ts
 * import { Sender } from "@sendq/sendq";
 * import assert from "node:assert/strict";
 *
 * // A server that wants a password, for this example.
 * const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
 * const served = (async () => {
 *   const client = await listener.accept();
 *   await client.read(new Uint8Array(64)); // the login
 *   await client.write(new TextEncoder().encode("230 welcome\r\n"));
 *   return await new Response(client.readable).text();
 * })();
 *
 * const sender = await Sender.open({
 *   queue: `${await Deno.makeTempDir()}/outbox.db`,
 *   remote: `tcp://127.0.0.1:${listener.addr.port}`,
 *   session: {
 *     open: [{ send: "PASS secret\r\n", expect: /^230 .*\r\n/, refuse: /^530 / }],
 *     close: "QUIT\r\n",
 *   },
 * });
 * await sender.enqueue("temperature 21.5\r\n");
 * await sender.close();
 *
 * assert.equal(await served, "temperature 21.5\r\nQUIT\r\n");
 * listener.close();
 * ```
 */
export interface Session {
  /**
   * What happens on each new connection before the first packet: steps, or a function.
   * Packets follow once its last byte is acknowledged. A server that refuses is asked again
   * after {@linkcode Session.refusedBackoffFirstMs}.
   */
  readonly open?: readonly SessionStep[] | SessionFunction;
  /** Bytes in quiet times. */
  readonly heartbeat?: Heartbeat;
  /**
   * What to say before our FIN when the sender closes and all that it has sent is confirmed.
   * A connection that is given up, or that the server ends, goes without it.
   */
  readonly close?: Bytes;
  /**
   * For servers that take one read for one message: each packet is a write of its own, which
   * goes out once all before it is acknowledged. One packet a round trip. A server that is slow
   * to read may still find two in its buffer: then have `open` wait for an answer.
   *
   * @default {false}
   */
  readonly separate?: boolean;
  /**
   * How long opening may take in all, in milliseconds; `connectTimeoutMs` is over by then.
   *
   * @default {10000}
   */
  readonly timeoutMs?: number;
  /**
   * The first ceiling of the pause after a refusal, in milliseconds; it doubles up to
   * {@linkcode Session.refusedBackoffCapMs}, and the pause is at least half of it: a wrong
   * password tried often enough locks an account.
   *
   * @default {5000}
   */
  readonly refusedBackoffFirstMs?: number;
  /**
   * The highest ceiling.
   *
   * @default {60000}
   */
  readonly refusedBackoffCapMs?: number;
}

/** A {@linkcode SessionStep}, made ready. */
export interface ReadyStep {
  /** Empty: nothing is sent. */
  readonly send: Uint8Array;
  readonly expect: ReadyPattern | undefined;
  readonly refuse: ReadyPattern | undefined;
  readonly framing: Framing | undefined;
  readonly timeoutMs: number;
}

/** A {@linkcode Heartbeat}, made ready. */
export interface ReadyHeartbeat extends ResolvedOptions<typeof HEARTBEAT_OPTIONS> {
  readonly send: Uint8Array;
  readonly expect: RegExp | undefined;
}

/** A {@linkcode Session}, checked. */
export interface SessionPlan extends ResolvedOptions<typeof SESSION_OPTIONS> {
  /** Undefined: packets may go out at once. */
  readonly open: readonly ReadyStep[] | SessionFunction | undefined;
  readonly heartbeat: ReadyHeartbeat | undefined;
  /** Empty: nothing. */
  readonly close: Uint8Array;
}

/** A checked {@linkcode Session}. */
export function planOf(session: Session): SessionPlan {
  checkFields("session", session, ["open", "heartbeat", "close", SESSION_OPTIONS]);
  const { open, heartbeat, close } = session;
  const limits = resolveOptions(SESSION_OPTIONS, session, "session.");
  return {
    ...limits,
    refusedBackoffCapMs: Math.max(limits.refusedBackoffFirstMs, limits.refusedBackoffCapMs),
    open: open === undefined || typeof open === "function" ? open : stepsOf(open),
    heartbeat: heartbeat === undefined ? undefined : heartbeatOf(heartbeat),
    close: close === undefined ? new Uint8Array() : bytesOf("session.close", close),
  };
}

function stepsOf(steps: unknown): ReadyStep[] {
  if (!Array.isArray(steps)) {
    throw new OptionError("session.open", steps, "must be a list of steps, or a function");
  }
  return steps.map((step: SessionStep, i) => {
    const name = `session.open[${i}]`;
    checkFields(name, step, ["send", "expect", "refuse", "framing", "timeoutMs"]);
    const { send, expect, refuse, framing, timeoutMs = Infinity } = step;
    if (send === undefined && expect === undefined) {
      throw new OptionError(name, step, "must have something to send or to expect");
    }
    for (const [field, given] of Object.entries({ refuse, framing })) {
      if (given === undefined || expect !== undefined) continue;
      throw new OptionError(
        `${name}.${field}`,
        given,
        "needs an expect beside it: a step that expects nothing waits for no answer",
      );
    }
    if (typeof timeoutMs !== "number" || !(timeoutMs >= 1)) {
      throw new OptionError(`${name}.timeoutMs`, timeoutMs, "must be 1 or more");
    }
    return {
      send: send === undefined ? new Uint8Array() : bytesOf(`${name}.send`, send),
      expect: patternOf(`${name}.expect`, expect),
      refuse: patternOf(`${name}.refuse`, refuse),
      framing: framing === undefined ? undefined : framingWithEnds(framing, `${name}.framing`),
      timeoutMs,
    };
  });
}

function heartbeatOf(heartbeat: Heartbeat): ReadyHeartbeat {
  const name = "session.heartbeat";
  checkFields(name, heartbeat, ["send", "expect", HEARTBEAT_OPTIONS]);
  const { send, expect } = heartbeat;
  const pattern = patternOf(`${name}.expect`, expect);
  return {
    ...resolveOptions(HEARTBEAT_OPTIONS, heartbeat, `${name}.`),
    send: bytesOf(`${name}.send`, send),
    expect: pattern === undefined || pattern instanceof RegExp ? pattern : anywhere(pattern),
  };
}

/** Text that is found anywhere, as a `RegExp` over latin1. */
function anywhere(bytes: Uint8Array): RegExp {
  return new RegExp(Array.from(bytes, hexOf).join(""));
}

function bytesOf(name: string, bytes: unknown): Uint8Array {
  if ((typeof bytes === "string" || bytes instanceof Uint8Array) && bytes.length > 0) {
    return toBytes(bytes);
  }
  throw new OptionError(name, bytes, "must be text or bytes, at least one");
}

function patternOf(name: string, pattern: unknown): ReadyPattern | undefined {
  if (pattern === undefined) return undefined;
  return pattern instanceof RegExp ? toPattern(pattern) : bytesOf(name, pattern);
}
