/** Why an attempt to reach a Unix socket fails, in words, and whose descriptor is whose. */

import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { OptionError, WireError } from "../../src/base/errors.ts";
import { isLasting } from "../../src/base/lasting.ts";
import { listenUnix } from "../../src/cli/commands/relay.ts";
import type { SocketOptions } from "../../src/kernel/socket_options.ts";
import { type UnixDialer, unixDialer } from "../../src/kernel/unix_dialer.ts";
import { unixSocket } from "../support/unix_sockets.ts";
import { patience } from "./helpers.ts";

function dialerTo(path: string, socket: SocketOptions = {}): UnixDialer {
  return unixDialer({ path, socket, clock: systemClock });
}

async function failure(path: string): Promise<WireError> {
  const error = await dialerTo(path).dial(patience()).then(() => undefined, (error) => error);
  assert.ok(error instanceof WireError, String(error));
  assert.equal(isLasting(error), false);
  return error;
}

/** As if the kernel had refused the connection. */
async function failureWith(thrown: Error): Promise<WireError> {
  const { connect } = Deno;
  Object.assign(Deno, { connect: () => Promise.reject(thrown) });
  try {
    return await failure("/run/app.sock");
  } finally {
    Object.assign(Deno, { connect });
  }
}

Deno.test("unix dialer: each failure says what to do next", async () => {
  const path = unixSocket();
  const missing = await failure(path);
  assert.equal(missing.code, "ENOENT");
  assert.match(
    missing.message,
    /^there is no \/.*one\.sock: its server is not running, or .*ENOENT/,
  );

  Deno.listen({ transport: "unix", path }).close();
  if (!exists(path)) await leaveSocket(path);
  const left = await failure(path);
  assert.equal(left.code, "ECONNREFUSED");
  assert.match(
    left.message,
    /^nobody listens on .*its server has ended and left the socket behind/,
  );

  const file = unixSocket("two.sock");
  Deno.writeTextFileSync(file, "");
  const noSocket = await failure(file);
  assert.equal(noSocket.code, "ECONNREFUSED");
  assert.match(noSocket.message, /two\.sock is no socket: name the one/);
  Deno.removeSync(file);

  const cases: readonly (readonly [string, string, RegExp])[] = [
    ["Permission denied (os error 13)", "EACCES", /^this user may not connect .*right to write/],
    [
      "Resource temporarily unavailable (os error 11)",
      "EAGAIN",
      /accepts no connections at present/,
    ],
    ["Protocol wrong type for socket (os error 91)", "EPROTOTYPE", /datagrams or packets/],
    ["Not a directory (os error 20)", "ENOTDIR", /^there is no \/run\/app\.sock/],
    ["Too many open files (os error 24)", "EMFILE", /^too many open files: raise the limit/],
    ["Whatever (os error 5)", "EIO", /^whatever \(EIO\)$/],
  ];
  for (const [words, code, message] of cases) {
    const error = await failureWith(new Error(words));
    assert.equal(error.code, code);
    assert.match(error.message, message);
  }
});

function exists(path: string): boolean {
  return [...Deno.readDirSync(path.replace(/\/[^/]*$/, ""))].some(({ name }) =>
    path.endsWith(`/${name}`)
  );
}

/** A socket on which a process listened that was killed. */
async function leaveSocket(path: string): Promise<void> {
  const program = `Deno.listen({ transport: "unix", path: Deno.args[0] });
    Deno.kill(Deno.pid, "SIGKILL");`;
  await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--no-prompt", `--allow-net=unix:${path}`, `--allow-read=${path}`],
      ...[`--allow-write=${path}`, "--allow-run", `data:text/javascript,${encodeURI(program)}`],
      path,
    ],
  }).output();
}

Deno.test("a socket that takes no clients at present, or datagrams, is in use and left alone", async () => {
  const path = unixSocket();
  using _listener = Deno.listen({ transport: "unix", path });
  const { connect } = Deno;
  for (
    const words of [
      "Resource temporarily unavailable (os error 11)",
      "Protocol wrong type for socket (os error 91)",
    ]
  ) {
    Object.assign(Deno, { connect: () => Promise.reject(new Error(words)) });
    try {
      await assert.rejects(listenUnix(path), {
        name: "AddrInUse",
        message: /one\.sock is in use already: another program listens there/,
      });
    } finally {
      Object.assign(Deno, { connect });
    }
  }
  // It still has its path.
  (await Deno.connect({ transport: "unix", path })).close();
});

Deno.test("of several that find a socket that was left there one listens on it", async () => {
  const path = unixSocket();
  await leaveSocket(path);
  const ends = await Promise.allSettled([listenUnix(path), listenUnix(path), listenUnix(path)]);
  try {
    const failed = ends.flatMap((end) => end.status === "rejected" ? [end.reason.name] : []);
    assert.deepEqual(failed, ["AddrInUse", "AddrInUse"]);
    (await Deno.connect({ transport: "unix", path })).close();
  } finally {
    for (const end of ends) if (end.status === "fulfilled") end.value.close();
  }
});

Deno.test("a socket that begins to listen, or whose owner ends, is not taken for one that was left", async () => {
  const path = unixSocket();
  const { connect } = Deno;
  const { ConnectionRefused, ConnectionReset } = Deno.errors;
  try {
    {
      using _listener = Deno.listen({ transport: "unix", path });
      const refusals = [new ConnectionRefused("between bind and listen")];
      Object.assign(Deno, {
        connect: (options: Deno.UnixConnectOptions) => {
          const refusal = refusals.pop();
          return refusal === undefined ? connect(options) : Promise.reject(refusal);
        },
      });
      await assert.rejects(listenUnix(path), { name: "AddrInUse" });
      assert.equal(refusals.length, 0);
      (await connect({ transport: "unix", path })).close();
    }
    for (const Ended of [ConnectionReset, Deno.errors.NotFound]) {
      const listener = Deno.listen({ transport: "unix", path });
      let isThere = true;
      Object.assign(Deno, {
        connect: () => {
          if (isThere) listener.close();
          isThere = false;
          return Promise.reject(new Ended("it ended while it was asked"));
        },
      });
      (await listenUnix(path)).close();
    }
  } finally {
    Object.assign(Deno, { connect });
  }
});

Deno.test("unix dialer: a missing permission stays what it is, and an abort ends the attempt", async () => {
  const ungranted = "/run/sendq-test-not-granted.sock";
  const refused = await dialerTo(ungranted).dial(patience()).catch((error) => error);
  assert.ok(refused instanceof Deno.errors.NotCapable, String(refused));
  const reason = new Error("enough");
  const given = await dialerTo(unixSocket()).dial(AbortSignal.abort(reason)).catch((error) =>
    error
  );
  assert.equal(given, reason);
});

Deno.test("unix dialer: of the socket's options sendBufferBytes alone means something", async () => {
  const path = unixSocket();
  using listener = Deno.listen({ transport: "unix", path });
  const wire = await dialerTo(path, { sendBufferBytes: 16_384, keepAlive: {}, noDelay: true }).dial(
    patience(),
  );
  using served = await listener.accept();
  const taken = await wire.write(new Uint8Array(4 * 1024 * 1024));
  assert.ok(taken < 65_536, `the buffer took ${taken}`);
  wire.abort();
  for (
    const [option, value] of Object.entries({
      noDelay: false,
      keepAlive: { idleMs: 1000 },
      userTimeoutMs: 1000,
      bindToDevice: "lo",
      tos: 0,
    })
  ) {
    assert.throws(() => dialerTo(path, { [option]: value }), (error: unknown) => {
      assert.ok(error instanceof OptionError, String(error));
      assert.equal(error.option, option);
      assert.match(error.message, /means nothing for a unix: remote: leave it out/);
      return true;
    });
  }
  assert.throws(() => dialerTo(path, { sendBufferBytes: 0 }), OptionError);
  assert.ok(served);
});

Deno.test("unix dialer: who connects at once to one path has each its own connection", async () => {
  const path = unixSocket();
  using listener = Deno.listen({ transport: "unix", path });
  const dialing = Array.from({ length: 8 }, () => dialerTo(path).dial(patience()));
  // They are accepted in this very process, while others connect.
  const served: Deno.UnixConn[] = [];
  while (served.length < dialing.length) served.push(await listener.accept());
  const wires = await Promise.all(dialing);
  for (const [index, wire] of wires.entries()) await wire.write(new Uint8Array(100 * (index + 1)));
  // Each reading is of the connection that was written to, and of no other one.
  for (const conn of served) {
    const bytes = await conn.read(new Uint8Array(10_000)) ?? 0;
    const read = wires.filter((wire) => wire.sample().readBytes === wire.sample().bytesAcked);
    assert.ok(read.includes(wires[bytes / 100 - 1] ?? assert.fail(`${bytes} bytes`)));
    assert.equal(read.length, served.indexOf(conn) + 1);
  }
  for (const wire of wires) wire.close();
  for (const conn of served) {
    // A duplicate that was left would keep it open.
    assert.equal(await conn.read(new Uint8Array(1)), null);
    conn.close();
  }
});

Deno.test("unix dialer: with another connection made in the same moment it is tried again", async () => {
  const path = unixSocket();
  using listener = Deno.listen({ transport: "unix", path });
  const { connect } = Deno;
  const others: Deno.UnixConn[] = [];
  Object.assign(Deno, {
    connect: async (options: Deno.UnixConnectOptions) => {
      others.push(await connect(options));
      return await connect(options);
    },
  });
  let error: unknown;
  try {
    error = await failure(path);
  } finally {
    Object.assign(Deno, { connect });
  }
  assert.ok(error instanceof WireError);
  assert.equal(error.code, "EAGAIN");
  assert.match(error.message, /another part of this program connected .* at the same moment/);
  for (const conn of others) conn.close();
  // Nothing of it is left behind, and the next attempt finds its own.
  const first = await listener.accept();
  const second = await listener.accept();
  assert.deepEqual(
    [await first.read(new Uint8Array(1)), await second.read(new Uint8Array(1))],
    [null, null],
  );
  first.close();
  second.close();
  const wire = await dialerTo(path).dial(patience());
  const served = await listener.accept();
  await wire.write(new Uint8Array(10));
  assert.equal(wire.sample().readBytes, 0);
  await served.read(new Uint8Array(10));
  assert.equal(wire.sample().readBytes, 10);
  wire.close();
  served.close();
});
