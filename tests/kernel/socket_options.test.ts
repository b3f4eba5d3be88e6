import assert from "node:assert/strict";
import { OptionError, SocketOptionError } from "../../src/base/errors.ts";
import { tcpDialer } from "../../src/kernel/dialer.ts";
import {
  type EffectiveSocketOptions,
  type SocketOptions,
  validateSocketOptions,
} from "../../src/kernel/socket_options.ts";
import { listen, openSockets, patience } from "./helpers.ts";

/** Connects with the options and gives what the kernel took. */
async function effective(
  socket: SocketOptions,
  hostname = "127.0.0.1",
): Promise<EffectiveSocketOptions> {
  using peer = listen(hostname);
  const accepted = peer.accept();
  const wire = await tcpDialer({ hostname, port: peer.port, socket }).dial(patience());
  using _ = await accepted;
  wire.abort();
  return wire.effectiveOptions;
}

Deno.test("options: defaults as documented", async () => {
  const taken = await effective({});
  assert.equal(taken.noDelay, true);
  assert.deepEqual(taken.keepAlive, { idleMs: 10_000, intervalMs: 3_000, count: 3 });
  assert.equal(taken.userTimeoutMs, 0);
  assert.equal(taken.bindToDevice, undefined);
  assert.equal(taken.mark, 0);
  assert.equal(taken.tos, 0);
  assert.match(taken.congestion ?? "", /^[a-z]/);
  assert.ok((taken.sendBufferBytes ?? 0) > 0);
  // Older kernels do not know TCP_RTO_MAX_MS and have to say so.
  if (taken.rtoMaxMs === undefined) assert.deepEqual(taken.unsupported, ["rtoMaxMs"]);
  else assert.deepEqual([taken.rtoMaxMs, taken.unsupported], [1000, []]);
});

Deno.test("options: what is asked for is what is read back", async () => {
  const isKnown = !(await effective({})).unsupported.includes("rtoMaxMs");
  const taken = await effective({
    noDelay: false,
    keepAlive: { idleMs: 1_500, intervalMs: 1, count: 7 },
    userTimeoutMs: 42_000,
    sendBufferBytes: 40_000,
    ...(isKnown ? { rtoMaxMs: 2_000 } : {}),
    congestion: "reno",
    bindToDevice: "lo",
    tos: 0xb8,
  });
  assert.equal(taken.noDelay, false);
  // Whole seconds, rounded up.
  assert.deepEqual(taken.keepAlive, { idleMs: 2_000, intervalMs: 1_000, count: 7 });
  assert.equal(taken.userTimeoutMs, 42_000);
  assert.equal(taken.sendBufferBytes, 80_000);
  assert.equal(taken.rtoMaxMs, isKnown ? 2_000 : undefined);
  assert.equal(taken.congestion, "reno");
  assert.equal(taken.bindToDevice, "lo");
  assert.equal(taken.tos, 0xb8);
  // What a kernel before 6.15 does not know can be left to the default, and not asked for.
  const refused = (error: unknown) =>
    error instanceof SocketOptionError &&
    /rtoMaxMs = 2000: .*Linux 6\.15.*Leave/.test(error.message);
  if (!isKnown) await assert.rejects(effective({ rtoMaxMs: 2_000 }), refused);
});

Deno.test("options: keepalive can be switched off, and tos works on IPv6", async () => {
  const taken = await effective({ keepAlive: false, tos: 0x28 }, "::1");
  assert.equal(taken.keepAlive, false);
  assert.equal(taken.tos, 0x28);
});

Deno.test("options: a send buffer beyond the system's limit is cut, and shown", async () => {
  const asked = 1_000_000_000;
  const { sendBufferBytes = 0 } = await effective({ sendBufferBytes: asked });
  assert.ok(sendBufferBytes > 4608 && sendBufferBytes < 2 * asked, String(sendBufferBytes));
});

Deno.test("options: mark is taken or refused by name, as the process may", async () => {
  try {
    assert.equal((await effective({ mark: 0xf000_0001 })).mark, 0xf000_0001);
  } catch (error) {
    assert.ok(error instanceof SocketOptionError);
    assert.deepEqual([error.option, error.value], ["mark", 0xf000_0001]);
    assert.match(error.message, /CAP_NET_ADMIN/);
  }
});

Deno.test("options: what the kernel refuses names option and value, and leaves no descriptor", async () => {
  const refused: readonly [SocketOptions, string, string, RegExp][] = [
    [{ congestion: "nope" }, "congestion", "nope", /tcp_allowed_congestion_control/],
    [{ bindToDevice: "no-such-device" }, "bindToDevice", "no-such-device", /no such interface/],
  ];
  const before = openSockets();
  for (const [socket, option, value, advice] of refused) {
    using peer = listen();
    const accepted = peer.accept();
    await assert.rejects(
      tcpDialer({ hostname: "127.0.0.1", port: peer.port, socket }).dial(patience()),
      (error: unknown) => {
        assert.ok(error instanceof SocketOptionError);
        assert.deepEqual([error.option, error.value], [option, value]);
        assert.match(error.message, advice);
        return true;
      },
    );
    (await accepted).close();
  }
  assert.equal(openSockets(), before);
});

Deno.test("options: a value out of range names option and value before anything is connected", () => {
  const bad: readonly [SocketOptions, RegExp][] = [
    [{ rtoMaxMs: 999 }, /rtoMaxMs .*, got 999/],
    [{ rtoMaxMs: 120_001 }, /rtoMaxMs/],
    [{ userTimeoutMs: -1 }, /userTimeoutMs .*, got -1/],
    [{ userTimeoutMs: 2 ** 31 }, /userTimeoutMs/],
    [{ sendBufferBytes: 0 }, /sendBufferBytes/],
    [{ sendBufferBytes: 1.5 }, /sendBufferBytes .*, got 1\.5/],
    [{ sendBufferBytes: NaN }, /sendBufferBytes .*, got NaN/],
    [{ mark: 2 ** 32 }, /mark/],
    [{ tos: 256 }, /tos/],
    [{ tos: 5 }, /tos .*multiple of 4.*, got 5/],
    [{ keepAlive: { idleMs: 0 } }, /keepAlive\.idleMs .*, got 0/],
    [{ keepAlive: { intervalMs: 32_767_001 } }, /keepAlive\.intervalMs/],
    [{ keepAlive: { count: 128 } }, /keepAlive\.count .*, got 128/],
    [{ congestion: "" }, /congestion .*, got ""/],
    [{ congestion: "a".repeat(16) }, /congestion/],
    [{ bindToDevice: "eth0/1" }, /bindToDevice/],
    [{ bindToDevice: "a\0b" }, /bindToDevice/],
  ];
  for (const [options, message] of bad) {
    assert.throws(
      () => tcpDialer({ hostname: "127.0.0.1", port: 9, socket: options }),
      (error: unknown) => error instanceof OptionError && message.test(error.message),
      JSON.stringify(options),
    );
  }
  validateSocketOptions({ rtoMaxMs: 120_000, tos: 252, keepAlive: { idleMs: 32_767_000 } });
});
