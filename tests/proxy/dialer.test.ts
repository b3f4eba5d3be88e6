/** What ends a handshake with a proxy, whatever it speaks; and when packets may follow it. */
import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { OptionError, WireError } from "../../src/base/errors.ts";
import { proxyOf } from "../../src/base/via.ts";
import { duplicateDescriptor } from "../../src/kernel/descriptor.ts";
import { closeDescriptor, setSocketInt } from "../../src/kernel/libc.ts";
import { proxyDialer } from "../../src/proxy/dialer.ts";
import { listen, openSockets, patience, resetBy } from "../kernel/helpers.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { until, within } from "../support/until.ts";
import { readExactly, ScriptedProxy } from "./scripted_proxy.ts";

for (const [scheme, begin] of [["socks5", 3], ["http", 10]] as const) {
  Deno.test(`${scheme}: a proxy that says nothing is given up and reset, in words`, async () => {
    let ended: number | undefined;
    await using proxy = new ScriptedProxy(async (connection) => {
      await readExactly(connection, begin);
      ended = (await connection.readBytes()).length;
    });
    let limitMs: number | undefined;
    const handshakeTimeoutMs = 150;
    const onHandshake = (withinMs: number) => limitMs = withinMs;
    await assert.rejects(proxy.dial({ scheme, handshakeTimeoutMs, onHandshake }), {
      name: "WireError",
      code: "ETIMEDOUT",
      message: `the proxy ${scheme}://127.0.0.1:${proxy.port}: within 0.15 s it did not say that ` +
        `tcp://legacy:4000 is connected (ETIMEDOUT)`,
    });
    assert.equal(limitMs, 150);
    await until("the proxy has seen the end", () => ended !== undefined);
  });

  Deno.test(`${scheme}: an attempt that is not wanted any more ends at once`, async () => {
    const reached = Promise.withResolvers<void>();
    await using proxy = new ScriptedProxy(async (connection) => {
      await readExactly(connection, begin);
      reached.resolve();
      await connection.readToEnd();
    });
    const controller = new AbortController();
    const dialed = proxy.dial({ scheme, signal: controller.signal });
    await reached.promise;
    const before = openSockets();
    controller.abort(new Error("no more"));
    await within("it ends", assert.rejects(dialed, { message: "no more" }));
    assert.ok(openSockets() <= before - 2, "our two descriptors are given back");
    await until("the proxy has nobody left", () => proxy.connections === 0);
  });

  Deno.test(`${scheme}: a proxy that is not there is named, without its password`, async () => {
    const url = `${scheme}://user:secret@127.0.0.1:${ScriptedServer.freePort()}`;
    const dialer = proxyDialer({
      proxy: proxyOf(url),
      remote: { hostname: "legacy", port: 4000 },
      tcp: {},
      clock: systemClock,
    });
    assert.equal(dialer.remote, "tcp://legacy:4000");
    await assert.rejects(dialer.dial(patience()), (error) => {
      assert.ok(error instanceof WireError);
      assert.equal(error.code, "ECONNREFUSED");
      assert.equal(
        error.message,
        `the proxy ${url.replace("user:secret@", "")}: connection refused (ECONNREFUSED)`,
      );
      return true;
    });
  });
}

Deno.test("a proxy that resets is named, and how it ended", async () => {
  using proxy = listen();
  const dialed = proxyDialer({
    proxy: proxyOf(`socks5://127.0.0.1:${proxy.port}`),
    remote: { hostname: "legacy", port: 4000 },
    tcp: {},
    clock: systemClock,
  }).dial(patience());
  dialed.catch(() => {});
  const conn = await proxy.accept();
  assert.equal(await conn.read(new Uint8Array(1)), 1);
  resetBy(conn);
  await assert.rejects(dialed, {
    code: "ECONNRESET",
    message: new RegExp(
      `^the proxy socks5://127\\.0\\.0\\.1:${proxy.port}: .*connection reset by peer \\(ECONNRESET\\)$`,
    ),
  });
});

const TCP_QUICKACK = 12;
const IPPROTO_TCP = 6;

Deno.test("a proxy that answers before it acknowledges is waited for", async () => {
  using proxy = listen();
  const dialed = proxyDialer({
    proxy: proxyOf(`socks5://127.0.0.1:${proxy.port}`),
    remote: { hostname: "legacy", port: 4000 },
    tcp: {},
    clock: systemClock,
  }).dial(patience());
  using conn = await proxy.accept();
  const found = duplicateDescriptor(conn, 0);
  assert.ok(found.kind === "found");
  try {
    // Its acknowledgements come late from now on: that of the request comes behind its answer.
    assert.ok(setSocketInt(found.fd, IPPROTO_TCP, TCP_QUICKACK, 0));
    await conn.write(Uint8Array.of(5, 0, 5, 0, 0, 1, 10, 0, 0, 1, 1, 2));
    const wire = await within("it is connected", dialed);
    const { sendQueueBytes, bytesAcked } = wire.sample();
    assert.deepEqual([sendQueueBytes, bytesAcked], [0, 1 + 3 + 13]);
    wire.abort();
  } finally {
    closeDescriptor(found.fd);
  }
});

Deno.test("a name that SOCKS5 has no room for is refused before anything is dialed", () => {
  const dialer = (scheme: string, length: number) =>
    proxyDialer({
      proxy: proxyOf(`${scheme}://proxy:1080`),
      remote: { hostname: "x".repeat(length), port: 4000 },
      tcp: {},
      clock: systemClock,
    });
  assert.throws(() => dialer("socks5", 256), { name: "OptionError", option: "remote" });
  assert.match(dialer("socks5", 255).remote, /x{255}:4000$/);
  assert.match(dialer("http", 256).remote, /x{256}:4000$/);
});

Deno.test("a zone is this host's: no proxy is asked for it", () => {
  assert.throws(
    () =>
      proxyDialer({
        proxy: proxyOf("socks5://proxy:1080"),
        remote: { hostname: "fe80::1%eth0", port: 4000 },
        tcp: {},
        clock: systemClock,
      }),
    (error) => {
      assert.ok(error instanceof OptionError);
      assert.match(error.message, /via.url cannot be combined with tcp:\/\/\[fe80::1%eth0\]:4000/);
      return true;
    },
  );
});
