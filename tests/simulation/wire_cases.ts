/**
 * What every wire has to do: one suite over the real kernel and the simulated one, so that
 * the model cannot drift from what it models. Cases follow kernel_facts, sections 1, 3, 4
 * and 6.3.
 */

import assert from "node:assert/strict";
import { WireError } from "../../src/base/errors.ts";
import { TcpState } from "../../src/base/ports.ts";
import type { WirePair } from "./wire_pair.ts";

/** A name, and what it checks on a connection of its own. */
export type Case = readonly [name: string, check: (pair: WirePair) => Promise<void>];

function zeroes(count: number): Uint8Array {
  return new Uint8Array(count);
}

/** Until everything written is acknowledged. */
function drained({ wire, until }: WirePair): Promise<void> {
  return until("Send-Q is empty", () => wire.sample().sendQueueBytes === 0);
}

function state({ wire, until }: WirePair, wanted: number): Promise<void> {
  return until(`state ${wanted}`, () => wire.sample().state === wanted);
}

async function rejection(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof WireError, String(error));
    return error.code;
  }
  throw new Error("it did not reject");
}

/**
 * Writes more than the peer takes unread; returns what the kernel took. The
 * last write stays pending, because there is no room.
 */
async function fill({ wire, until }: WirePair): Promise<number> {
  let written = 0;
  for (;;) {
    let pending = true;
    const note = (count: number): void => {
      written += count;
      pending = false;
    };
    // How the last one ends is not looked at: whoever calls this ends the connection.
    wire.write(zeroes(65_536)).then(note, () => {});
    await until(
      "the write was taken, or the window is shut",
      () => !pending || isShut(wire.sample()),
    );
    if (pending) return written;
  }
}

function isShut(sample: ReturnType<WirePair["wire"]["sample"]>): boolean {
  return sample.unackedSegments === 0 && sample.notSentBytes > 0 &&
    (sample.sendWindowBytes ?? 0) < sample.sendMssBytes;
}

/** How far the peer has ever been ready to take. */
function edgeOf(sample: ReturnType<WirePair["wire"]["sample"]>): number {
  return sample.bytesAcked + (sample.sendWindowBytes ?? 0);
}

/** All of them. */
export const CASES: readonly Case[] = [
  ["a fresh connection has acknowledged its SYN and nothing else", ({ wire, synBytes }) => {
    const sample = wire.sample();
    assert.equal(sample.state, TcpState.ESTABLISHED);
    assert.equal(sample.bytesAcked, synBytes);
    assert.equal(sample.sendQueueBytes, 0);
    assert.equal(sample.notSentBytes, 0);
    assert.equal(sample.unackedSegments, 0);
    assert.equal(sample.probes, 0);
    assert.equal(sample.hangup, false);
    assert.equal(wire.takeSocketError(), undefined);
    return Promise.resolve();
  }],
  ["every byte written is in Send-Q or acknowledged", async (pair) => {
    const { wire, peer, outcome, synBytes } = pair;
    let written = 0;
    for (const size of [1, 100, 5000, 40_000]) {
      written += await outcome(wire.write(zeroes(size)));
      const sample = wire.sample();
      // Two readings: an acknowledgement may come in between, and only raises the one taken later.
      assert.ok(sample.bytesAcked - synBytes <= written);
      await drained(pair);
      assert.equal(wire.sample().bytesAcked, written + synBytes);
      await peer.read(size);
    }
    assert.equal(wire.sample().unackedSegments, 0);
  }],
  ["a peer that does not read shuts its window, and opens it again", async (pair) => {
    const { wire, peer, until } = pair;
    const written = await fill(pair);
    const shut = wire.sample();
    assert.ok(isShut(shut));
    assert.equal(shut.state, TcpState.ESTABLISHED);
    assert.equal(shut.notSentBytes, shut.sendQueueBytes);
    assert.ok(shut.bytesAcked - pair.synBytes + shut.sendQueueBytes >= written);
    // A probe is answered: last_ack_recv falls back, and the window stays shut.
    const { lastAckMs } = shut;
    await until("last_ack_recv grows", () => wire.sample().lastAckMs > lastAckMs + 40);
    const before = wire.sample().lastAckMs;
    await until("a probe is answered", () => wire.sample().lastAckMs < before);
    assert.ok(isShut(wire.sample()));
    assert.ok(wire.sample().windowLimitedUs > shut.windowLimitedUs);
    const edge = edgeOf(wire.sample());
    await peer.read(written);
    // It may be shut again by what waited for it, and is not read.
    await until("the window has opened", () => edgeOf(wire.sample()) > edge);
  }],
  ["a FIN is state CLOSE_WAIT and a read of nothing", async (pair) => {
    const { wire, peer, outcome } = pair;
    const read = wire.read(zeroes(10));
    peer.halfClose();
    assert.equal(await outcome(read), null);
    await state(pair, TcpState.CLOSE_WAIT);
    assert.equal(wire.sample().hangup, false);
    assert.equal(wire.takeSocketError(), undefined);
    // A peer that only half-closed goes on acknowledging.
    await outcome(wire.write(zeroes(500)));
    await drained(pair);
    assert.equal(wire.sample().bytesAcked, 500 + pair.synBytes);
    assert.equal(await outcome(wire.read(zeroes(10))), null);
  }],
  ["writing to a peer that closed is accepted, then answered by EPIPE", async (pair) => {
    const { wire, peer, outcome } = pair;
    await outcome(wire.write(zeroes(50)));
    await peer.read(50);
    await drained(pair);
    peer.close();
    await state(pair, TcpState.CLOSE_WAIT);
    assert.equal(await outcome(wire.write(zeroes(70))), 70);
    await state(pair, TcpState.CLOSE);
    const sample = wire.sample();
    assert.equal(sample.bytesAcked, 50 + pair.synBytes);
    assert.equal(sample.sendQueueBytes, 70);
    assert.equal(sample.unackedSegments, 0);
    assert.equal(sample.hangup, true);
    // The FIN was seen: reading goes on finding the end.
    assert.equal(await outcome(wire.read(zeroes(10))), null);
    assert.equal(wire.takeSocketError(), "EPIPE");
    assert.equal(wire.takeSocketError(), undefined);
  }],
  ["a reset is told once: to SO_ERROR", async (pair) => {
    const { wire, peer, outcome } = pair;
    await outcome(wire.write(zeroes(300)));
    await drained(pair);
    peer.reset();
    await state(pair, TcpState.CLOSE);
    assert.equal(wire.sample().hangup, true);
    assert.equal(wire.sample().bytesAcked, 300 + pair.synBytes);
    assert.equal(wire.takeSocketError(), "ECONNRESET");
    assert.equal(wire.takeSocketError(), undefined);
    assert.equal(await outcome(wire.read(zeroes(10))), null);
    assert.equal(await rejection(outcome(wire.write(zeroes(10)))), "EPIPE");
    // Post-mortem readings stay.
    assert.equal(wire.sample().bytesAcked, 300 + pair.synBytes);
    assert.equal(wire.sample().sendQueueBytes, 0);
  }],
  ["a reset is told once: to a pending read", async (pair) => {
    const { wire, peer, outcome } = pair;
    const read = wire.read(zeroes(10));
    peer.reset();
    assert.equal(await rejection(outcome(read)), "ECONNRESET");
    assert.equal(wire.takeSocketError(), undefined);
    assert.equal(await outcome(wire.read(zeroes(10))), null);
  }],
  ["a reset leaves in Send-Q what was never acknowledged", async (pair) => {
    const { wire, peer } = pair;
    await fill(pair);
    const { sendQueueBytes, bytesAcked, notSentBytes } = wire.sample();
    peer.reset();
    await state(pair, TcpState.CLOSE);
    const sample = wire.sample();
    assert.equal(sample.sendQueueBytes, sendQueueBytes);
    assert.equal(sample.bytesAcked, bytesAcked);
    assert.equal(sample.notSentBytes, notSentBytes);
    assert.equal(sample.unackedSegments, 0);
  }],
  ["our FIN counts one in bytes_acked; both FINs end in CLOSE without an error", async (pair) => {
    const { wire, peer, outcome } = pair;
    await outcome(wire.write(zeroes(200)));
    await peer.read(200);
    const read = wire.read(zeroes(10));
    wire.shutdownWrite();
    await state(pair, TcpState.FIN_WAIT2);
    assert.equal(wire.sample().bytesAcked, 200 + pair.synBytes + pair.finBytes);
    assert.equal(wire.sample().sendQueueBytes, 0);
    assert.equal(await rejection(outcome(wire.write(zeroes(1)))), "EPIPE");
    assert.equal(await peer.end(), "end");
    peer.close();
    await state(pair, TcpState.CLOSE);
    assert.equal(await outcome(read), null);
    assert.equal(wire.sample().hangup, true);
    assert.equal(wire.sample().bytesAcked, 200 + pair.synBytes + pair.finBytes);
    assert.equal(wire.takeSocketError(), undefined);
  }],
  ["the peer's FIN first ends the same", async (pair) => {
    const { wire, peer, outcome } = pair;
    await outcome(wire.write(zeroes(200)));
    await peer.read(200);
    await drained(pair);
    peer.close();
    await state(pair, TcpState.CLOSE_WAIT);
    wire.shutdownWrite();
    await state(pair, TcpState.CLOSE);
    assert.equal(wire.sample().bytesAcked, 200 + pair.synBytes + pair.finBytes);
    assert.equal(wire.sample().sendQueueBytes, 0);
    assert.equal(wire.takeSocketError(), undefined);
  }],
  ["bytes of the peer arrive, also behind its FIN", async (pair) => {
    const { wire, peer, outcome } = pair;
    await peer.write(30);
    peer.halfClose();
    await state(pair, TcpState.CLOSE_WAIT);
    assert.equal(await outcome(wire.read(zeroes(20))), 20);
    assert.equal(await outcome(wire.read(zeroes(20))), 10);
    assert.equal(await outcome(wire.read(zeroes(20))), null);
  }],
  ["what is said of the packets ends nothing by itself", async (pair) => {
    const { wire, peer, outcome } = pair;
    await outcome(wire.write(zeroes(10)));
    await peer.read(10);
    wire.concluded?.({ confirmedAny: false, unconfirmedPackets: 1 });
    assert.equal(wire.sample().state, TcpState.ESTABLISHED);
    await outcome(wire.write(zeroes(10)));
    await peer.read(10);
  }],
  ["abort resets the peer, rejects what is pending, and may be called again", async (pair) => {
    const { wire, peer, outcome } = pair;
    await outcome(wire.write(zeroes(10)));
    await peer.read(10);
    const read = wire.read(zeroes(10));
    wire.abort();
    wire.abort();
    wire.close();
    assert.equal(await rejection(outcome(read)), "ECANCELED");
    assert.equal(await peer.end(), "reset");
  }],
  ["close after an orderly exchange ends the peer's stream, too", async (pair) => {
    const { wire, peer, outcome } = pair;
    await outcome(wire.write(zeroes(10)));
    await peer.read(10);
    await drained(pair);
    wire.close();
    wire.close();
    assert.equal(await peer.end(), "end");
  }],
];
