/**
 * Confirmation by what the server's program has read, over wires that are told it by hand.
 */
import assert from "node:assert/strict";
import { OptionError } from "../../src/base/errors.ts";
import type { SocketSample } from "../../src/base/ports.ts";
import { type TcpDialer, tcpDialer } from "../../src/kernel/dialer.ts";
import type { SenderOptions } from "../../src/sender/options.ts";
import { packets } from "../support/packets.ts";
import { seen, SenderBench } from "../support/sender_bench.ts";
import { until, within } from "../support/until.ts";

/** Wires that know of the program's reading what the test says. */
class Told {
  /** Of the present connection. */
  readBytes = 0;
  tells = true;

  dialer(world: SenderBench): TcpDialer {
    const { hostname, port } = new URL(world.server.remote.replace("tcp:", "http:"));
    const inner = tcpDialer({ hostname, port: Number(port) });
    return {
      remote: inner.remote,
      dial: async (signal, onLookedUp) => {
        const wire = await inner.dial(signal, onLookedUp);
        this.readBytes = 0;
        const sample = wire.sample.bind(wire);
        wire.sample = (): SocketSample => ({
          ...sample(),
          ...(this.tells ? { readBytes: 1 + this.readBytes } : {}),
        });
        return wire;
      },
    };
  }
}

function bench(options: Partial<SenderOptions> = {}): SenderBench {
  return new SenderBench({ confirm: "reader", backoffFirstMs: 1, backoffCapMs: 1, ...options });
}

Deno.test("a packet is removed once it is read to its end, and no acknowledgement removes it", async () => {
  await using world = bench();
  const told = new Told();
  const sender = await world.open({ dialer: told.dialer(world) });
  await sender.enqueueMany(packets(3)); // of 9 bytes each
  const drained = sender.drained();
  await until("all are acknowledged", () => sender.stats().heldPackets === 3);
  assert.equal(sender.stats().confirmedBy, "reader");
  told.readBytes = 17;
  await until("the first is removed", () => sender.stats().queue.packets === 2);
  told.readBytes = 27;
  await until("all are removed", () => sender.stats().queue.packets === 0);
  await within("drained() resolves", drained);
  await sender.close();
});

Deno.test("what nobody has read is sent again over the next connection, what was read is not", async () => {
  await using world = bench();
  const told = new Told();
  const sender = await world.open({ dialer: told.dialer(world) });
  await sender.enqueueMany(packets(3));
  const first = await world.server.accept();
  await until("all are acknowledged", () => sender.stats().heldPackets === 3);
  told.readBytes = 9;
  await until("the first is removed", () => sender.stats().queue.packets === 2);
  first.close();
  const second = await world.server.accept();
  assert.equal(await second.readUntil("packet 3\n"), "packet 2\npacket 3\n");
  told.readBytes = 18;
  await until("all are removed", () => sender.stats().queue.packets === 0);
  const { confirmedPackets, drainedPackets } = sender.stats();
  assert.deepEqual([confirmedPackets, drainedPackets], [3, 5]);
});

Deno.test("a login's bytes are not taken for a packet's, read or unread", async () => {
  await using world = bench({ session: { open: [{ send: "LOGIN 12345678\n" }] } });
  const told = new Told();
  const sender = await world.open({ dialer: told.dialer(world) });
  await sender.enqueueMany(packets(1));
  await until("it is acknowledged", () => sender.stats().heldPackets === 1);
  told.readBytes = 15; // the login alone
  await sender.enqueueMany(packets(1));
  await until("the next is acknowledged", () => sender.stats().heldPackets === 2);
  assert.equal(sender.stats().queue.packets, 2);
  told.readBytes = 15 + 9;
  await until("one is removed", () => sender.stats().queue.packets === 1);
});

Deno.test("a program that reads nothing is stalled, although its window is open, and given up", async () => {
  await using world = bench({ peerStallTimeoutMs: 1500 });
  const told = new Told();
  const sender = await world.open({ dialer: told.dialer(world) });
  const stalled = seen(sender, ({ verdict }) => verdict.kind === "peer-stalled");
  const gaveUp = seen(sender, ({ words }) => words.startsWith("connection given up"));
  await sender.enqueueMany(packets(2));
  assert.equal((await stalled).state, "connected");
  assert.match((await gaveUp).words, /peer stalled: .*has not read .*2 packets will be sent again/);
});

Deno.test("a connection that cannot tell is no connection, and never a weaker promise", async () => {
  await using world = bench();
  const told = new Told();
  told.tells = false;
  const sender = await world.open({ dialer: told.dialer(world) });
  const failed = seen(sender, ({ words }) => words.startsWith("cannot connect"));
  await sender.enqueueMany(packets(1));
  assert.match((await failed).words, /nothing on this connection tells .*READS_UNKNOWN/);
  assert.equal(sender.stats().queue.packets, 1);
});

Deno.test("what means nothing beside it is refused at open", async (t) => {
  const cases: readonly (readonly [string, Partial<SenderOptions>, RegExp])[] = [
    ["plain TCP", {}, /^confirm is for a remote that begins with tls:/],
    [
      "a hold",
      { remote: "tls://localhost:6514", holdMs: 5 },
      /^holdMs means nothing where reading/,
    ],
    [
      "a FIN that confirms",
      { remote: "tls://localhost:6514", onPeerFin: "confirm" },
      /^onPeerFin must be reconnect where reading confirms/,
    ],
  ];
  for (const [name, options, words] of cases) {
    await t.step(name, async () => {
      await using world = bench();
      await assert.rejects(world.open(options), (error) => {
        assert(error instanceof OptionError, String(error));
        assert.match(error.message, words);
        return true;
      });
    });
  }
});
