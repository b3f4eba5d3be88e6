/**
 * What TlsWire calls acknowledged, against what has arrived: a relay knows how much
 * ciphertext this host's kernel had after each sample, and the server behind it decrypts.
 */

import assert from "node:assert/strict";
import { setImmediate } from "node:timers";
import { grantedLibc, testUnless } from "../kernel/helpers.ts";
import { until } from "../support/until.ts";
import { dialTls } from "./helpers.ts";
import { CipherRelay, type RelayedConnection } from "./relay.ts";
import { DecryptingServer } from "./servers.ts";
import type { TlsOptions } from "../../src/tls/options.ts";

const obstacle = grantedLibc() === undefined
  ? "needs --allow-ffi=<path of the C library>"
  : undefined;

/** The same numbers at each run. */
function* sizes(): Generator<number, never> {
  let state = 1;
  const special = [1, 2, 3, 5, 16_383, 16_384, 16_386, 16_389, 49_152, 49_157];
  for (let i = 0;; i++) {
    state = (state * 48_271) % 2_147_483_647;
    yield i % 5 === 0 ? special[state % special.length] ?? 1 : 1 + state % 20_000;
  }
}

interface Taken {
  readonly ackedBytes: number;
  /** Ciphertext that had arrived when the sample had been taken. */
  readonly arrivedBytes: number;
}

/**
 * Where plaintext ends in the ciphertext that a relay has read, by arithmetic of its own.
 *
 * @returns Pairs: so much ciphertext, and how much plaintext is whole in it.
 */
function endsOf(
  records: RelayedConnection["records"],
  overhead: number,
  decrypted: number,
): (readonly [cipher: number, plain: number])[] {
  // From the last one backwards: before the data lie records of the handshake, which look
  // like data in TLS 1.3.
  const ends: (readonly [number, number])[] = [];
  let left = decrypted;
  for (const { end, payload } of records.toReversed()) {
    if (left === 0) break;
    ends.unshift([end, left]);
    left -= payload - overhead;
  }
  assert.equal(left, 0, "the records do not add up to what was decrypted");
  return ends;
}

const VERSIONS: readonly (readonly [string, TlsOptions, number])[] = [
  ["TLS 1.3", { minVersion: "TLSv1.3" }, 17],
  ["TLS 1.2", { maxVersion: "TLSv1.2" }, 24],
];

for (const [version, options, overhead] of VERSIONS) {
  testUnless(
    obstacle,
    `${version}: a thousand samples, none says more than had arrived`,
    async () => {
      await using server = new DecryptingServer();
      await using relay = new CipherRelay(server.port);
      const wire = await dialTls(relay.port, options);
      const between = await relay.next();
      const taken: Taken[] = [];
      const sample = () => {
        const { bytesAcked } = wire.sample();
        taken.push({ ackedBytes: bytesAcked - 1, arrivedBytes: between.arrivedBytes });
      };
      let written = 0;
      const size = sizes();
      const writing = (async () => {
        for (let i = 0; i < 400; i++) {
          const chunk = new Uint8Array(size.next().value).fill(i);
          for (let offset = 0; offset < chunk.length;) {
            const done = await wire.write(chunk.subarray(offset));
            written += done;
            offset += done;
            sample();
          }
        }
        return "over";
      })();
      // Samples at any moment, also while records are under way; now and then the relay does
      // not read for a while, so that the window shuts in the middle of them.
      for (let turn = 0;; turn++) {
        if (turn % 100 === 30) between.hold();
        if (turn % 100 === 0) between.release();
        const over = await Promise.race([writing, new Promise((resolve) => setImmediate(resolve))]);
        sample();
        if (over === "over" && taken.length >= 1000) break;
      }
      between.release();
      await until("all is acknowledged", () => wire.sample().bytesAcked - 1 === written);
      assert.equal(wire.sample().sendQueueBytes, 0);
      sample();
      await until("all is decrypted", () => server.bytesOf(0) === written);
      const ends = endsOf(between.records, overhead, written);
      assert.ok(taken.length >= 1000, `${taken.length} samples`);
      let exact = 0;
      for (const { ackedBytes, arrivedBytes } of taken) {
        const arrived = ends.findLast(([cipher]) => cipher <= arrivedBytes)?.[1] ?? 0;
        assert.ok(ackedBytes <= arrived, `${ackedBytes} acknowledged, ${arrived} arrived`);
        if (ackedBytes === arrived) exact++;
      }
      assert.ok(exact > taken.length / 10, `only ${exact} of ${taken.length} are exact`);
      wire.abort();
    },
  );
}

testUnless(obstacle, "a full Send-Q is counted to the byte, and nothing is lost", async () => {
  await using server = new DecryptingServer();
  await using relay = new CipherRelay(server.port);
  const wire = await dialTls(relay.port);
  const between = await relay.next();
  between.hold();
  const chunk = new Uint8Array(60_000);
  let written = 0, taken = 0;
  let pending = true;
  const filling = (async () => {
    while (written < 20_000_000) written += await wire.write(chunk);
    pending = false;
  })();
  // A window that is shut keeps the rest waiting: nothing moves any more.
  await until("the window is shut", () => {
    const { sendQueueBytes, notSentBytes, unackedSegments, sendWindowBytes = 0, sendMssBytes } =
      wire.sample();
    const moved = taken !== written;
    taken = written;
    return !moved && notSentBytes > 0 && unackedSegments === 0 && sendWindowBytes < sendMssBytes &&
      sendQueueBytes > 0;
  });
  assert.ok(pending);
  const { bytesAcked, sendQueueBytes } = wire.sample();
  assert.ok(bytesAcked - 1 + sendQueueBytes >= taken);
  assert.ok(bytesAcked - 1 <= between.arrivedBytes);
  between.release();
  await filling;
  await until("all is decrypted", () => server.bytesOf(0) === written);
  await until("all is acknowledged", () => wire.sample().sendQueueBytes === 0);
  assert.equal(wire.sample().bytesAcked - 1, written);
  wire.abort();
});

testUnless(
  obstacle,
  "what a reset leaves unacknowledged is never counted as acknowledged",
  async () => {
    await using server = new DecryptingServer();
    await using relay = new CipherRelay(server.port);
    const wire = await dialTls(relay.port);
    const between = await relay.next();
    const reading = wire.read(new Uint8Array(10));
    between.hold();
    let written = 0;
    const writing = (async () => {
      for (;;) written += await wire.write(new Uint8Array(60_000));
    })();
    await until("the window is shut", () => {
      const { notSentBytes, unackedSegments, sendWindowBytes = 0, sendMssBytes } = wire.sample();
      return notSentBytes > 0 && unackedSegments === 0 && sendWindowBytes < sendMssBytes;
    });
    const { bytesAcked } = wire.sample();
    const arrivedBytes = between.reset();
    await assert.rejects(writing, { name: "WireError" });
    // It is told of the reset, unless the write was.
    await Promise.allSettled([reading]);
    const after = wire.sample();
    assert.equal(after.state, 7);
    assert.ok(after.bytesAcked >= bytesAcked && after.bytesAcked - 1 <= arrivedBytes);
    assert.equal(after.sendQueueBytes, written - (after.bytesAcked - 1));
    between.release();
    wire.abort();
  },
);
