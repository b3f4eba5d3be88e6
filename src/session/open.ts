/**
 * Opens a session on a connection that was just made.
 *
 * Invariants:
 * 1. It settles when the session's time is over, whatever the server or a function does.
 * 2. When it resolves, every byte that it has written is acknowledged, by both of the kernel's
 *    counters, so that no acknowledgement of a login can confirm a packet.
 * 3. When it rejects, the connection is reset.
 * 4. Bytes that the server has sent and the session has not used are still to be read.
 */

import { acknowledged } from "../base/acknowledged.ts";
import { messageOf, SessionRefusedError, WireError } from "../base/errors.ts";
import { abortQuietly } from "../base/own_end.ts";
import type { Clock, Wire } from "../base/ports.ts";
import { unlessAborted } from "../base/waits.ts";
import type { ReadyStep, SessionPlan } from "./session.ts";
import { BoundedStream } from "./stream.ts";
import { WireReader } from "./wire_reader.ts";

/** Everything inside ends by itself in time, but for what a user's function waits for. */
const GRACE_MS = 50;

/** A connection that packets may go out on. */
export interface Opened {
  readonly wire: Wire;
  /** Has what the server said beyond the session. */
  readonly reader: WireReader;
  /** What the session has left for `transform`. */
  readonly state: ReadonlyMap<string, unknown>;
}

/**
 * Opens a session.
 *
 * @param wire Just connected; nothing was written to it.
 * @throws {SessionRefusedError} The server does not want it.
 * @throws {WireError} The connection failed, or the time is over.
 * @throws {KernelCallError} The kernel's counters cannot be read, or contradict each other.
 */
export async function openSession(
  wire: Wire,
  plan: SessionPlan,
  clock: Clock,
  signal: AbortSignal,
): Promise<Opened> {
  const reader = new WireReader(wire);
  const state = new Map<string, unknown>();
  const { open, timeoutMs } = plan;
  try {
    signal.throwIfAborted();
    const baseBytes = wire.sample().bytesAcked;
    const stream = new BoundedStream({ wire, reader, clock, signal, state, timeoutMs });
    const run = async () => {
      if (typeof open === "function") await runFunction(stream, () => open(stream));
      else await runSteps(stream, open ?? []);
      await stream.finish();
      const { writtenBytes } = stream;
      const said = { baseBytes, writtenBytes, of: "the session", doing: "the session was opened" };
      const what = "its kernel has not acknowledged the session";
      await acknowledged(wire, said, clock, (ms) => stream.pause(ms, what));
    };
    const running = run();
    running.catch(() => {});
    await stream.within(
      unlessAborted(running, signal),
      "the session's function has not ended",
      GRACE_MS,
    );
    return { wire, reader, state };
  } catch (error) {
    abortQuietly(wire);
    throw error;
  }
}

async function runSteps(stream: BoundedStream, steps: readonly ReadyStep[]): Promise<void> {
  for (const [i, { send, expect, refuse, framing, timeoutMs }] of steps.entries()) {
    stream.place = steps.length === 1 ? "the session: " : `step ${i + 1} of the session: `;
    if (send.length > 0) await stream.write(send);
    if (expect === undefined) continue;
    await stream.expect(expect, {
      timeoutMs,
      ...(refuse === undefined ? {} : { refuse }),
      ...(framing === undefined ? {} : { framing }),
    });
  }
}

/** What a function of the user's throws is a failed attempt, and no reason to stop a sender. */
async function runFunction(stream: BoundedStream, open: () => Promise<void>): Promise<void> {
  stream.place = "the session: ";
  try {
    await open();
  } catch (error) {
    if (error instanceof SessionRefusedError || error instanceof WireError) throw error;
    throw new WireError("SESSION", `the session's function failed: ${messageOf(error)}`, {
      cause: error,
    });
  }
}
