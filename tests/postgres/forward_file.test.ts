/** What forwarders ask of the edge's file: room on its disk, and that its packets stay in it. */
import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { ClosedError, OptionError } from "../../src/base/errors.ts";
import type { Clock } from "../../src/base/ports.ts";
import { Forwarder, postgresQueue } from "../../src/postgres/postgres.ts";
import { serveForwarderStatus } from "../../src/observe/http.ts";
import { OutboundQueue } from "../../src/queue/queue.ts";
import { SenderLock } from "../../src/queue/sender_lock.ts";
import { runHere } from "../cli/helpers.ts";
import { Disk } from "../queue/disk.ts";
import { failsToClose, NO_TMPFS, unless } from "../queue/helpers.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until, within } from "../support/until.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

Deno.test("a file that may lose packets in a power cut is not forwarded", async () => {
  using dir = new TempDir();
  const options = { url: "postgres://nobody@127.0.0.1:1/none/outbox", edge: "plant 7" };
  const durability = "process-crash";
  const refused = (error: unknown) =>
    error instanceof OptionError && error.option === "queueOptions.durability" &&
    /must be power-loss for a file that is forwarded: after a power cut/.test(error.message);
  await assert.rejects(
    Forwarder.open(dir.queue, { ...options, queueOptions: { durability } }),
    refused,
  );
  assert.deepEqual([...Deno.readDirSync(dir.path)], [], "no file was made");
  {
    await using queue = await OutboundQueue.open(dir.queue, { durability });
    await assert.rejects(Forwarder.open(queue, options), refused);
    // It is left as it was: open, and free for a sender.
    await queue.enqueue("one");
    using _lock = await SenderLock.acquire(queue.path);
  }
  const args = ["forward", "-q", dir.queue, "--to", options.url, "--durability", durability];
  const { code, err } = await runHere(args);
  assert.equal(code, 2, err);
  assert.match(err, /^sendq: --durability must be power-loss for a file that is forwarded: after/);
  // What was opened as it should be is forwarded.
  await using forwarder = await Forwarder.open(dir.queue, options);
  await forwarder.close({ deliverTimeoutMs: 0 });
});

Deno.test("who gives up waiting until all is forwarded waits no more, whatever the reason", async () => {
  using dir = new TempDir();
  const options = { url: "postgres://nobody@127.0.0.1:1/none/outbox", edge: "plant 7" };
  await using forwarder = await Forwarder.open(dir.queue, options);
  await forwarder.queue.enqueue("nowhere to go");
  const reason = new ClosedError("the user's own connection");
  const stop = new AbortController();
  const waiting = forwarder.drained(stop.signal);
  stop.abort(reason);
  await within("it waits no more", assert.rejects(waiting, (error) => error === reason));
  const untilClosed = forwarder.drained();
  await forwarder.close({ deliverTimeoutMs: 0 });
  await assert.rejects(untilClosed, /The forwarder was closed before all packets were forwarded/);
});

Deno.test("a forwarder whose queue is closed ends, also while the cluster is away", async () => {
  using dir = new TempDir();
  const queue = await OutboundQueue.open(dir.queue);
  await queue.enqueue("nowhere to go");
  const url = "postgres://nobody@127.0.0.1:1/none/outbox";
  const forwarder = await Forwarder.open(queue, { url, edge: "plant 7" });
  await until("the cluster is away", () => forwarder.stats().failures > 0);
  await queue.close();
  await assert.rejects(within("it ends", forwarder.closed), ClosedError);
  await forwarder.close().catch(() => {});
  using _lock = await SenderLock.acquire(dir.queue);
});

Deno.test("what others store while the cluster was never there is counted, also by a stop", async () => {
  using dir = new TempDir();
  const url = "postgres://nobody@127.0.0.1:1/none/outbox";
  const forwarder = await Forwarder.open(dir.queue, { url, edge: "plant 7" });
  await until("the cluster is away", () => forwarder.stats().failures > 0);
  await using other = await OutboundQueue.open(dir.queue);
  await other.enqueue("one");
  await until("it is counted", () => forwarder.stats().queue.packets === 1);
  await other.enqueue("two");
  await forwarder.close({ deliverTimeoutMs: 0 });
  assert.equal(forwarder.stats().queue.packets, 2);
});

Deno.test("a forwarder that cannot be made gives the right to send back", async () => {
  using dir = new TempDir();
  const options = { url: "postgres://nobody@127.0.0.1:1/none/outbox", edge: "plant 7" };
  // What a program without types may say.
  const clock = { ...systemClock, nowMs: undefined } as unknown as Clock;
  {
    await using queue = await OutboundQueue.open(dir.queue);
    await assert.rejects(Forwarder.open(queue, { ...options, clock }), TypeError);
    await queue.enqueue("it is open");
    using _lock = await SenderLock.acquire(queue.path);
  }
  await using forwarder = await Forwarder.open(dir.queue, options);
  await forwarder.close({ deliverTimeoutMs: 0 });
});

Deno.test("a file that was taken away is told as long as what it held is forwarded", async () => {
  using dir = new TempDir();
  const options = { url: "postgres://nobody@127.0.0.1:1/none/outbox", edge: "plant 7" };
  const forwarder = await Forwarder.open(dir.queue, options);
  await using status = serveForwarderStatus(forwarder, { port: 0 });
  await forwarder.queue.enqueue("nowhere else");
  for (const end of ["", "-wal", "-shm"]) Deno.removeSync(dir.queue + end);
  await until("that is noticed", () => forwarder.queueFailure !== undefined);
  const answer = await fetch(new URL("healthz", status.url));
  assert.equal(answer.status, 503);
  assert.match(await answer.text(), /Its queue was taken away\. .* its file was removed or moved /);
  assert.notEqual(forwarder.state, "closed");
  await assert.rejects(forwarder.close({ deliverTimeoutMs: 0 }), { reason: "misplaced" });
});

Deno.test("a file that cannot be closed can be forwarded all the same, by the next one", async () => {
  using dir = new TempDir();
  const options = { url: "postgres://nobody@127.0.0.1:1/none/outbox", edge: "plant 7" };
  const queueOptions = { driver: failsToClose };
  const forwarder = await Forwarder.open(dir.queue, { ...options, queueOptions });
  await assert.rejects(forwarder.close({ deliverTimeoutMs: 0 }), /injected on close/);
  await using next = await Forwarder.open(dir.queue, options);
  await next.close({ deliverTimeoutMs: 0 });
});

Deno.test({
  ...unless(
    NO_POSTGRES ?? NO_TMPFS,
    "a forwarder starts on a full disk, and takes out what the cluster has already",
  ),
  async fn() {
    await using server = await PostgresServer.start();
    const url = await server.makeQueue("outbox");
    const options = { url, durability: "power-loss", edge: "plant 7" } as const;
    using disk = new Disk("size=8m");
    {
      await using forwarder = await Forwarder.open(disk.queue, options);
      await forwarder.queue.enqueue("first");
      await forwarder.drained();
    }
    {
      await using queue = await OutboundQueue.open(disk.queue);
      for (let i = 0; i < 20; i++) {
        await queue.enqueueMany(Array.from({ length: 64 }, () => new Uint8Array(1000)));
      }
    }
    // As where the answer was lost with the forwarder: the cluster has them, and so has the file.
    const before = Deno.readFileSync(disk.queue);
    {
      await using forwarder = await Forwarder.open(disk.queue, options);
      await forwarder.drained();
    }
    Deno.writeFileSync(disk.queue, before);
    await using queue = await OutboundQueue.open(disk.queue);
    disk.fillUp();
    await using forwarder = await Forwarder.open(queue, options);
    await within("the cluster has them", forwarder.drained());
    // However often it had to begin.
    const { queue: { packets }, forwardedPackets } = forwarder.stats();
    assert.deepEqual([packets, forwardedPackets], [0, 0]);
    await using cluster = await postgresQueue({ url, durability: "power-loss" });
    assert.equal(cluster.stats().packets, 1 + 20 * 64);
  },
});
