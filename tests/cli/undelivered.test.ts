/**
 * `send` ends with 0 only where every packet was delivered: one that left the queue in another
 * way is named, and makes it 1.
 */
import assert from "node:assert/strict";
import { QueueInspector } from "../../src/queue/inspect/inspector.ts";
import { OutboundQueue } from "../../src/queue/queue.ts";
import { tamper } from "../queue/inspector_helpers.ts";
import { bytes } from "../support/bytes.ts";
import { ReadingServer, ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";
import { runHere, Sendq } from "./helpers.ts";

/** Nobody listens there. */
function nowhere(): string {
  return `tcp://127.0.0.1:${ScriptedServer.freePort()}`;
}

Deno.test("packets that expired: named in the last lines, and exit 1", async () => {
  using dir = new TempDir();
  const args = ["send", nowhere(), "-q", dir.queue, "--ttl", "1ms"];
  const { code, err } = await runHere(args, "a\nb\nc\n");
  assert.equal(code, 1, err);
  assert.match(err, /done: 0 packets delivered, 3 expired\n/);
  assert.match(
    err,
    /3 packets were not delivered and are dead letters: see sendq list --dead\n$/,
  );
});

Deno.test("packets of an earlier run that expire are named as well, those that had died before not", async () => {
  using dir = new TempDir();
  const first = await runHere(["send", nowhere(), "-q", dir.queue, "--ttl", "1ms"], "a\n");
  assert.equal(first.code, 1, first.err);
  {
    await using queue = await OutboundQueue.open(dir.queue, { ttlMs: 1 });
    await queue.enqueueMany([bytes("b\n"), bytes("c\n")]);
  }
  const second = await runHere(["send", nowhere(), "-q", dir.queue]);
  assert.equal(second.code, 1, second.err);
  assert.match(second.err, /done: 0 packets delivered, 2 expired\n/);
  const third = await runHere(["send", nowhere(), "-q", dir.queue]);
  assert.equal(third.code, 0, third.err);
  assert.match(third.err, /done: 0 packets delivered\n$/);
});

Deno.test("packets that were given up: named, and exit 1", async () => {
  using dir = new TempDir();
  await using server = new ScriptedServer().start();
  const served = server.serve(async (connection) => {
    await connection.readUntil("\n");
    connection.close();
  });
  const args = ["send", server.remote, "-q", dir.queue, "--max-attempts", "2"];
  const { code, err } = await runHere(args, "a\n");
  assert.equal(code, 1, err);
  assert.match(err, /done: 0 packets delivered, 1 packet sent again, 1 given up\n/);
  assert.match(err, /1 packet was not delivered and is a dead letter: see sendq list --dead\n$/);
  await server[Symbol.asyncDispose]();
  await served;
});

Deno.test("packets that were dropped for newer ones: named, and exit 1", async () => {
  using dir = new TempDir();
  const remote = nowhere();
  const options = ["--max-packets", "2", "--overflow", "drop-oldest", "--backoff-cap", "100ms"];
  const sending = runHere(
    ["send", remote, "-q", dir.queue, ...options],
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].join("\n"),
  );
  await until("all are stored", async () => {
    using queue = await QueueInspector.open(dir.queue).catch(() => undefined);
    return queue !== undefined && (await queue.counts()).lastId === 10;
  });
  await using server = new ReadingServer({ port: Number(new URL(remote).port) });
  const { code, err } = await sending;
  assert.equal(code, 1, err);
  assert.equal(server.text, "9\n10\n");
  assert.match(err, /done: 2 packets delivered, 8 dropped\n/);
  assert.match(err, /8 packets were removed to make room before they were confirmed\n$/);
});

Deno.test("a packet that was dropped on its way, and confirmed: not called undelivered", async () => {
  using dir = new TempDir();
  await using server = new ScriptedServer().start();
  await using send = Sendq.send(
    ...[server.remote, dir.queue, "--max-packets", "1", "--overflow", "drop-oldest"] as const,
    ...["--confirm", "answer", "--accepted", "OK", "--answer-timeout", "60s"],
  );
  await send.write("1\n");
  const connection = await server.accept();
  await connection.readUntil("1\n");
  await send.write("2\n");
  await send.endInput();
  await until("the second has taken its place", async () => {
    using queue = await QueueInspector.open(dir.queue);
    return (await queue.counts()).lastId === 2;
  });
  await connection.write("OK\n");
  await connection.readUntil("2\n");
  await connection.write("OK\n");
  assert.equal(await send.ended(), 1, send.stderr);
  assert.match(send.stderr, /done: 2 packets delivered, 1 dropped\n/);
  assert.match(send.stderr, /1 packet was removed to make room before it was confirmed\n$/);
});

Deno.test("dead letters that were dropped are not called packets that were not confirmed", async () => {
  using dir = new TempDir();
  const options = ["--ttl", "1ms", "--max-dead-packets", "1", "--backoff-cap", "100ms"];
  await using send = Sendq.send(nowhere(), dir.queue, ...options);
  await send.write("1\n2\n3\n");
  await until("two have made way", async () => {
    using queue = await QueueInspector.open(dir.queue).catch(() => undefined);
    return queue !== undefined && (await queue.counts()).droppedPackets === 2;
  });
  await send.endInput();
  assert.equal(await send.ended(), 1, send.stderr);
  assert.match(send.stderr, /2 packets, or dead letters, were removed to make room\n/);
  assert.match(send.stderr, /3 packets were not delivered and are dead letters/);
});

Deno.test("packets that are damaged in the file: named, and exit 1", async () => {
  using dir = new TempDir();
  {
    await using queue = await OutboundQueue.open(dir.queue);
    await queue.enqueueMany([bytes("a\n"), bytes("b\n")]);
  }
  tamper(dir.queue, "UPDATE packets SET payload = x'410a620a'");
  await using server = new ReadingServer();
  const { code, err } = await runHere(["send", server.remote, "-q", dir.queue], "c\n");
  assert.equal(code, 1, err);
  assert.match(err, /done: 1 packet delivered, 2 damaged\n/);
  assert.match(err, /2 packets were not delivered and are dead letters: see sendq list --dead\n$/);
});
