/** Connections from a chosen address of this host. */
import assert from "node:assert/strict";
import { OptionError, WireError } from "../../src/base/errors.ts";
import { TcpState } from "../../src/base/ports.ts";
import { tcpDialer, type TcpDialerOptions } from "../../src/kernel/dialer.ts";
import { mayReach, parseSource } from "../../src/kernel/source.ts";
import type { TcpWire } from "../../src/kernel/tcp_wire.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { until, within } from "../support/until.ts";
import { grantedLibc, listen, openSockets, patience, resetBy, testUnless } from "./helpers.ts";

const noKernel = grantedLibc() === undefined
  ? "needs --allow-ffi=<path of the C library>"
  : undefined;
const FROM = "127.0.0.1";

function dial(port: number, more: Partial<TcpDialerOptions> = {}): Promise<TcpWire> {
  return tcpDialer({ hostname: "127.0.0.1", port, source: FROM, ...more }).dial(patience());
}

Deno.test("a source is an address, perhaps with a port", () => {
  const taken: [text: string, hostname: string, port: number, family: 4 | 6][] = [
    ["192.0.2.1", "192.0.2.1", 0, 4],
    ["192.0.2.1:5000", "192.0.2.1", 5000, 4],
    ["2001:db8::1", "2001:db8::1", 0, 6],
    ["[2001:db8::1]", "2001:db8::1", 0, 6],
    ["[2001:DB8::1]:65535", "2001:db8::1", 65_535, 6],
  ];
  for (const [text, hostname, port, family] of taken) {
    assert.deepEqual(parseSource(text), { hostname, port, family }, text);
  }
  const refused = [
    ...["", "host", "host:5000", "192.0.2", "192.0.2.256", "192.0.2.1:0", "192.0.2.1:65536"],
    ...["192.0.2.1:", "[2001:db8::1", "2001:db8::1]:1", "[192.0.2.1]:x", "::1%lo"],
  ];
  for (const text of refused) {
    assert.throws(() => parseSource(text), (error) => {
      assert.ok(error instanceof OptionError, `${text}: ${error}`);
      assert.match(error.message, /^source must be an address/);
      return true;
    });
  }
  for (const text of ["fe80::1", "fe80::1%eth0", "[febf::1%2]:5000"]) {
    assert.throws(() => parseSource(text), { message: /^source must be no link-local address/ });
  }
  assert.equal(mayReach(parseSource("192.0.2.1"), "192.0.2.7"), true);
  assert.equal(mayReach(parseSource("192.0.2.1"), "::1"), false);
  assert.equal(mayReach(parseSource("::1"), "192.0.2.7"), false);
  assert.equal(mayReach(parseSource("::1"), "legacy"), true);
  // node:net connects to such an address without its zone, which no kernel does.
  assert.equal(mayReach(parseSource("2001:db8::1"), "fe80::1%eth0"), false);
});

testUnless(noKernel, "source: bytes and counters are those of any other wire", async () => {
  using peer = listen();
  const wire = await dial(peer.port, { socket: { userTimeoutMs: 12_345, bindToDevice: "lo" } });
  using conn = await peer.accept();
  assert.match(wire.localAddress, /^127\.0\.0\.1:\d+$/);
  assert.equal(wire.localAddress, `127.0.0.1:${conn.remoteAddr.port}`);
  assert.equal(wire.remoteAddress, `127.0.0.1:${peer.port}`);
  assert.equal(wire.effectiveOptions.userTimeoutMs, 12_345);
  assert.equal(wire.effectiveOptions.bindToDevice, "lo");
  assert.equal(wire.device, "lo");
  assert.equal(wire.localFault(), undefined);
  assert.equal(wire.sample().bytesAcked, 1);
  const text = new TextEncoder().encode("hello");
  assert.equal(await wire.write(text), 5);
  const buffer = new Uint8Array(100);
  assert.equal(await conn.read(buffer), 5);
  await until("it is acknowledged", () => wire.sample().bytesAcked === 6);
  assert.equal(wire.sample().sendQueueBytes, 0);
  await conn.write(new TextEncoder().encode("answer"));
  // What does not fit stays to be read.
  assert.equal(await wire.read(buffer.subarray(0, 4)), 4);
  assert.equal(await wire.read(buffer.subarray(4)), 2);
  assert.equal(new TextDecoder().decode(buffer.subarray(0, 6)), "answer");
  await conn.closeWrite();
  assert.equal(await within("the end is read", wire.read(buffer)), null);
  assert.equal(wire.sample().state, TcpState.CLOSE_WAIT);
  // The other direction is open until we close it.
  assert.equal(await wire.write(text), 5);
  assert.equal(await conn.read(buffer), 5);
  wire.shutdownWrite();
  assert.equal(await within("our FIN is read", conn.read(buffer)), null);
  wire.close();
});

testUnless(noKernel, "source: a write that finds no room has told of all before it", async () => {
  using peer = listen();
  // The smallest send buffer that there is.
  const wire = await dial(peer.port, { socket: { sendBufferBytes: 1 } });
  using conn = await peer.accept();
  let takenBytes = 0;
  const chunk = new Uint8Array(1 << 20);
  const writing = (async () => {
    for (;;) takenBytes += await wire.write(chunk);
  })();
  writing.catch(() => {});
  let stoodFor = 0;
  let last = -1;
  await until("nobody takes any more", () => {
    stoodFor = takenBytes === last ? stoodFor + 1 : 0;
    last = takenBytes;
    return stoodFor === 40 && takenBytes > 0;
  });
  // Whoever watches counts what was taken: some of it is not acknowledged.
  const { bytesAcked, sendQueueBytes } = wire.sample();
  assert.ok(sendQueueBytes > 0);
  assert.ok(takenBytes - (bytesAcked - 1) > 0, `${takenBytes} taken, ${bytesAcked} acknowledged`);
  assert.ok(
    bytesAcked - 1 + sendQueueBytes - takenBytes <= 4096,
    "more is under way than one write",
  );
  wire.abort();
  await assert.rejects(within("it is told", writing), { code: "ECANCELED" });
  // A reset, and no FIN: the rest of what was sent is gone.
  const buffer = new Uint8Array(1 << 20);
  await assert.rejects(
    (async () => {
      while (await conn.read(buffer) !== null);
    })(),
    Deno.errors.ConnectionReset,
  );
});

testUnless(
  noKernel,
  "source: a reset is told to whoever reads and writes, by its name",
  async () => {
    using peer = listen();
    const wire = await dial(peer.port);
    const reading = wire.read(new Uint8Array(10));
    resetBy(await peer.accept());
    await assert.rejects(within("the reset is read", reading), {
      code: "ECONNRESET",
      message:
        `127.0.0.1:${peer.port} could not be read from: connection reset by peer (ECONNRESET)`,
    });
    assert.equal(wire.sample().state, TcpState.CLOSE);
    await assert.rejects(wire.write(new Uint8Array(1)));
    wire.abort();
  },
);

testUnless(
  noKernel,
  "source: IPv6, and a port of one's own, one connection after the other",
  async () => {
    using peer = listen("::1");
    const port = ScriptedServer.freePort();
    const from = { hostname: "::1", source: `[::1]:${port}` };
    for (let round = 0; round < 2; round++) {
      const wire = await dial(peer.port, from);
      using conn = await peer.accept();
      assert.equal(conn.remoteAddr.port, port);
      assert.equal(wire.localAddress, `[::1]:${port}`);
      const before = openSockets();
      await assert.rejects(dial(peer.port, from), {
        code: "EADDRINUSE",
        message:
          `[::1]:${port} is in use: by another socket, or for a minute by a connection from ` +
          `there that has ended (EADDRINUSE)`,
      });
      assert.equal(openSockets(), before);
      // Another server is another connection.
      using second = listen("::1");
      const beside = await dial(second.port, from);
      assert.equal(beside.localAddress, `[::1]:${port}`);
      beside.abort();
      wire.abort();
    }
    using other = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    await assert.rejects(dial(1, { source: `127.0.0.1:${other.addr.port}` }), {
      code: "EADDRINUSE",
    });
  },
);

testUnless(noKernel, "source: an address that is not this host's is said so", async () => {
  const command = new Deno.Command(Deno.execPath(), {
    args: [
      ...["eval", "--quiet", `--ext=ts`, "--no-lock"],
      `import { tcpDialer } from ${
        JSON.stringify(new URL("../../src/kernel/dialer.ts", import.meta.url).href)
      };
       const dialer = tcpDialer({ hostname: "127.0.0.1", port: 9, source: "192.0.2.77" });
       await dialer.dial(AbortSignal.timeout(5000)).catch(({ code, message }) => console.log(code, message));`,
    ],
    stderr: "inherit",
  });
  const { stdout } = await command.output();
  assert.equal(
    new TextDecoder().decode(stdout),
    "EADDRNOTAVAIL this host has no address 192.0.2.77 now (ip address) (EADDRNOTAVAIL)\n",
  );
});

testUnless(
  noKernel,
  "source: nobody listens, one family is not the other, a name has its own",
  async () => {
    const port = ScriptedServer.freePort();
    await assert.rejects(dial(port), {
      name: "WireError",
      code: "ECONNREFUSED",
      message: "connection refused (ECONNREFUSED)",
    });
    await assert.rejects(dial(port, { hostname: "::1" }), {
      code: "EAFNOSUPPORT",
      message: /::1 cannot be reached from 127\.0\.0\.1: one is IPv4, the other is IPv6/,
    });
    using peer = listen();
    const wire = await dial(peer.port, { hostname: "localhost" });
    assert.equal(wire.remoteAddress, `127.0.0.1:${peer.port}`);
    wire.abort();
  },
);

testUnless(
  noKernel,
  "source: an attempt that is not wanted any more leaves nothing behind",
  async () => {
    using peer = listen();
    const dialer = tcpDialer({ hostname: "127.0.0.1", port: peer.port, source: FROM });
    const before = openSockets();
    const controller = new AbortController();
    const dialed = dialer.dial(controller.signal);
    controller.abort(new Error("no more"));
    await assert.rejects(dialed, { message: "no more" });
    await until("its socket is gone", () => openSockets() === before);
  },
);

testUnless(
  noKernel,
  "source: what is not granted is a missing permission, and ends nobody",
  async () => {
    // Of the whole network only loopback is granted to tests.
    const dialer = tcpDialer({ hostname: "127.0.0.1", port: 9, source: "192.0.2.77" });
    const failure = await dialer.dial(patience()).catch((error) => error);
    assert.ok(failure instanceof Deno.errors.NotCapable || failure instanceof WireError);
    if (failure instanceof Deno.errors.NotCapable) {
      assert.match(failure.message, /--allow-net=192\.0\.2\.77:0/);
    }
  },
);
