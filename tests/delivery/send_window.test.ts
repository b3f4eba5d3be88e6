/** What the window does with a queue that takes its time; the simulation does the rest. */
import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import type { DeliveryQueue } from "../../src/base/ports.ts";
import { Connection } from "../../src/delivery/connection.ts";
import { SendWindow } from "../../src/delivery/send_window.ts";
import { limitsOf } from "../../src/sender/options.ts";
import { WireReader } from "../../src/session/wire_reader.ts";
import { bytes } from "../support/bytes.ts";
import { until } from "../support/until.ts";
import { FakeWire } from "./fake_wire.ts";

Deno.test("a packet is given up behind a burial that is under way: each has its own end", async () => {
  const asked: string[] = [];
  const refusal = Promise.withResolvers<void>();
  const givingUp = Promise.withResolvers<void>();
  let removedThroughId = 0;
  const queue: DeliveryQueue = {
    lastId: 1,
    get removedThroughId() {
      return removedThroughId;
    },
    readBatches: () =>
      Promise.resolve([
        { firstId: 1, bytes: bytes("a\n"), ends: Uint32Array.of(2), expiresAtMs: Infinity },
      ]),
    removeThrough: () => Promise.resolve(),
    giveUp: (id) => {
      asked.push(`give ${id} up`);
      return givingUp.promise;
    },
    refuse: (id) => {
      asked.push(`refuse ${id}`);
      return refusal.promise;
    },
    rememberSent: () => {},
    assertOpen: () => {},
    subscribe: () => () => {},
  };
  const limits = limitsOf({
    queue: "q.db",
    remote: "tcp://test:1",
    maxAttempts: 2,
    confirm: { framing: "lines", accepted: "OK", refused: "ERR" },
  });
  const wire = new FakeWire();
  const connection = new Connection({
    ...{ wire, clock: systemClock, limits, afterId: 0 },
    ...{ lastId: () => 1, onEnd: () => {}, onWritten: () => {}, onReceived: () => {} },
  });
  let reads = 0;
  const window = new SendWindow({
    ...{ queue, clock: systemClock, limits, sentThroughId: 0 },
    ...{ onActivity: () => reads++, onQueueFault: () => {}, onUnsendable: () => {} },
  });
  window.connected({ wire, reader: new WireReader(wire), state: new Map() }, limits);
  window.topUp(connection, 0);
  await until("the packet is read", () => reads > 0);
  window.topUp(connection, 0);
  await until("it is written", () => wire.written.length > 0);
  wire.bytesAcked += 2;
  connection.poll();
  window.take(connection);
  wire.peerSays("ERR\n");
  await until("it is refused", () => {
    connection.poll();
    window.take(connection);
    return asked.length > 0;
  });

  // It was under way in the break before as well.
  window.suspect(connection);
  window.suspect(connection);
  window.rewind();
  refusal.resolve();
  await until("it is given up", () => asked.length > 1);
  assert.deepEqual(asked, ["refuse 1", "give 1 up"]);
  // Nothing goes out before the second one has ended as well.
  const before = reads;
  window.topUp(connection, 0);
  await new Promise((resolve) => setTimeout(resolve, 0));
  assert.equal(reads, before);
  // Nor is it called gone before that.
  removedThroughId = 1;
  assert.equal(window.hasDrained(1, undefined), false);
  givingUp.resolve();
  await window.finishRemovals();
  assert.equal(window.hasDrained(1, undefined), true);
});
