/** Delivery to a server on this host: what its program has read is confirmed, and only that. */

import assert from "node:assert/strict";
import { OptionError } from "../../src/base/errors.ts";
import type { SenderOptions } from "../../src/sender/options.ts";
import { Sender } from "../../src/sender/sender.ts";
import { lines, packet, packets } from "../support/packets.ts";
import { seen } from "../support/sender_bench.ts";
import { TempDir } from "../support/temp_dir.ts";
import { unixSocket } from "../support/unix_sockets.ts";
import { UnixServerProcess } from "../support/unix_server.ts";
import { until } from "../support/until.ts";

/** A sender on a queue of its own, put away with the test. */
class Bench implements AsyncDisposable {
  readonly path: string = unixSocket();
  readonly #dir = new TempDir();
  #sender: Sender | undefined;

  async open(options: Partial<SenderOptions> = {}): Promise<Sender> {
    const { queue } = this.#dir;
    return this.#sender = await Sender.open({ queue, remote: `unix:${this.path}`, ...options });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sender?.close({ deliverTimeoutMs: 0 }).catch(() => {});
    this.#dir[Symbol.dispose]();
  }
}

Deno.test("unix: a packet is confirmed once the server's program has read it, and no sooner", async () => {
  await using bench = new Bench();
  await using server = await new UnixServerProcess(bench.path, 0).listening();
  const sender = await bench.open();
  await sender.enqueueMany(packets(10));
  await until("all lies in its buffer", () => sender.stats().heldPackets === 10);
  // There it may die with the program.
  await seen(sender, ({ verdict }) => verdict.kind === "peer-stalled");
  const stats = sender.stats();
  assert.deepEqual(
    [stats.queue.packets, stats.heldPackets, stats.confirmedBy],
    [10, 10, "reader"],
  );
  await server.readOn(Infinity);
  await until("all is confirmed", () => sender.stats().queue.packets === 0);
  await until("all was told", () => server.text === lines(10));
  assert.equal(sender.stats().redeliveredPackets, 0);
  assert.equal(sender.remote, `unix:${bench.path}`);
  assert.equal(sender.stats().path?.remoteAddress, `unix:${bench.path}`);
});

Deno.test("unix: a slow server is killed with unread packets: all of them are sent again, none is lost", async () => {
  await using bench = new Bench();
  const count = 3000;
  let sender: Sender;
  const texts: string[] = [];
  {
    // It reads in the middle of a packet, and of a piece of the kernel's memory.
    await using server = await new UnixServerProcess(bench.path, 20_005).listening();
    sender = await bench.open();
    for (let first = 1; first <= count; first += 100) {
      await sender.enqueueMany(packets(100, first));
    }
    await until("it has read so much", () => server.text.length === 20_005);
    await until("more lies in its buffer", () => sender.stats().heldPackets > 100);
    await server.kill();
    texts.push(server.text);
  }
  const kept = sender.stats().queue.packets;
  const read = texts[0]?.split("\n").length ?? 0;
  // What was read and is sent again is a duplicate, what was not read and is gone is lost.
  assert.ok(count - kept <= read, `${count - kept} were confirmed, ${read} read`);
  await using server = await new UnixServerProcess(bench.path).listening();
  await until("all is confirmed", () => sender.stats().queue.packets === 0);
  await until("the last one", () => server.text.endsWith(`packet ${count}\n`));
  const seenLines = new Set([...texts, server.text].flatMap((text) => text.split("\n")));
  const lost = lines(count).trimEnd().split("\n").filter((line) => !seenLines.has(line));
  assert.deepEqual(lost, []);
});

Deno.test("unix: a server that answers confirms by its answers, in the order that it reads", async () => {
  await using bench = new Bench();
  await using server = await new UnixServerProcess(bench.path, 0, "0 Success\n").listening();
  const sender = await bench.open({
    confirm: { framing: "lines", accepted: new TextEncoder().encode("0 "), maxUnanswered: 100 },
  });
  await sender.enqueueMany(packets(50));
  await until("all lies in its buffer", () => sender.stats().heldPackets === 50);
  // Several packets share a piece of memory, of which a part is read and answered.
  await server.readOn(lines(20).length);
  await until("twenty are confirmed", () => sender.stats().queue.packets === 30);
  await server.readOn(Infinity);
  await until("all are confirmed", () => sender.stats().queue.packets === 0);
  assert.equal(sender.stats().confirmedBy, "answer");
  assert.equal(sender.stats().connections, 1);
});

Deno.test("unix: a list of servers, of which one is not there", async () => {
  await using bench = new Bench();
  const second = unixSocket("two.sock");
  await using server = await new UnixServerProcess(second).listening();
  const sender = await bench.open({ remote: [`unix:${bench.path}`, `unix:${second}`] });
  await sender.enqueue(packet(1));
  await until("it is confirmed", () => sender.stats().queue.packets === 0);
  await until("it was told", () => server.text === lines(1));
});

Deno.test("unix: nobody there is said in words, and the packets wait", async () => {
  await using bench = new Bench();
  const sender = await bench.open({ backoffFirstMs: 1, backoffCapMs: 10 });
  const failed = seen(sender, ({ state }) => state === "backing-off");
  await sender.enqueue(packet(1));
  assert.match((await failed).words, /cannot connect to unix:.*one\.sock: there is no .*ENOENT/);
  await using server = await new UnixServerProcess(bench.path).listening();
  await until("it is confirmed", () => sender.stats().queue.packets === 0);
  await until("it was told", () => server.text === lines(1));
});

Deno.test("unix: options that mean nothing over a Unix socket are refused", async () => {
  await using bench = new Bench();
  const cases: readonly (readonly [Partial<SenderOptions>, string, RegExp])[] = [
    [{ confirm: "kernel" }, "confirm", /reading confirms: leave it out/],
    [{ holdMs: 1000 }, "holdMs", /means nothing where reading confirms/],
    [{ onPeerFin: "confirm" }, "onPeerFin", /must be reconnect/],
    [{ socket: { noDelay: false } }, "noDelay", /means nothing for a unix: remote/],
    [{ tls: {} }, "tls", /is for a remote that begins with tls/],
  ];
  for (const [options, option, message] of cases) {
    await assert.rejects(bench.open(options), (error: unknown) => {
      assert.ok(error instanceof OptionError, String(error));
      assert.equal(error.option, option);
      assert.match(error.message, message);
      return true;
    });
  }
});
