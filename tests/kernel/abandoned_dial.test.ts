/** An attempt that is given up leaves no connection behind, whenever that is. */
import assert from "node:assert/strict";
import { connectionsOf } from "../../lab/connections_of.ts";
import { tcpDialer } from "../../src/kernel/dialer.ts";
import { until, within } from "../support/until.ts";
import { listen, patience } from "./helpers.ts";

Deno.test("dials that are given up at any moment leave no connection to the server", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  let accepted = 0, ended = 0;
  const readings: Promise<void>[] = [];
  const accepting = (async () => {
    for await (const connection of connectionsOf(listener)) {
      accepted++;
      readings.push((async () => {
        await connection.readable.pipeTo(new WritableStream()).catch(() => {});
        ended++;
      })());
    }
  })();
  const dialer = tcpDialer({ hostname: "127.0.0.1", port: listener.addr.port });
  const controllers = Array.from({ length: 600 }, () => new AbortController());
  for (const [i, controller] of controllers.entries()) {
    const dialed = dialer.dial(controller.signal).then((wire) => wire.abort(), () => {});
    // The loop stands still until the kernel has connected, and the abort comes in its next turn:
    // before, behind, and in the moment at which the runtime learns of both.
    setTimeout(() => controller.abort(), 0);
    for (const untilMs = performance.now() + 0.2 * (1 + i % 10); performance.now() < untilMs;);
    await dialed;
  }
  await until("every connection has ended", () => ended === accepted);
  assert.ok(accepted > 0);
  listener.close();
  await accepting;
  await Promise.all(readings);
});

Deno.test("a dial that is given up between two steps of its end has one all the same", async () => {
  using peer = listen();
  const dialer = tcpDialer({ hostname: "127.0.0.1", port: peer.port });
  const { connect } = Deno;
  try {
    for (let steps = 0; steps < 16; steps++) {
      const controller = new AbortController();
      Object.assign(Deno, {
        connect: async (options: Deno.ConnectOptions) => {
          const conn = await connect(options);
          void (async () => {
            for (let step = 0; step < steps; step++) await undefined;
            controller.abort();
          })();
          return conn;
        },
      });
      const ended = peer.accept().then(async (conn) => {
        await conn.read(new Uint8Array(1)).finally(() => conn.close());
      }).catch(() => {}); // It was reset.
      const dialed = dialer.dial(controller.signal).then((wire) => wire.abort(), () => {});
      await within(`${steps} steps`, dialed);
      await within("its connection ends", ended);
    }
  } finally {
    Object.assign(Deno, { connect });
  }
});

Deno.test("source: a dial that is given up at once connects to nobody", async () => {
  using peer = listen();
  const dialer = tcpDialer({ hostname: "127.0.0.1", port: peer.port, source: "127.0.0.1" });
  const controller = new AbortController();
  const dialed = dialer.dial(controller.signal);
  controller.abort();
  await assert.rejects(dialed, { name: "AbortError" });
  const wire = await dialer.dial(patience());
  using first = await peer.accept();
  assert.equal(`127.0.0.1:${first.remoteAddr.port}`, wire.localAddress);
  wire.abort();
});
