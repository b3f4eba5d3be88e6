import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import net from "node:net";
import tls from "node:tls";
import { OptionError, SocketOptionError } from "../../src/base/errors.ts";
import {
  ClosedError,
  drained,
  sendQueue,
  setSocketOptions,
  socketError,
  socketOptions,
  type TcpConnection,
  tcpInfo,
  watch,
} from "../../src/tcp/tcp.ts";
import { libcGrant } from "../../src/kernel/libc.ts";
import { resetBy } from "../kernel/helpers.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until, within } from "../support/until.ts";
import {
  certificate,
  cookieOf,
  descriptorsOf,
  echo,
  endsAlone,
  overfill,
  pair,
} from "./helpers.ts";

/** Bytes that a peer has acknowledged of what was written, by the whole structure. */
function acked(conn: TcpConnection, base: number): number {
  return (tcpInfo(conn).bytesAcked ?? 0) - base;
}

for (const [name, address] of [["IPv4", "127.0.0.1"], ["IPv6", "::1"]] as const) {
  Deno.test(`both ends of a connection of Deno's, ${name}`, async () => {
    using both = await pair(address);
    for (const [from, to] of [[both.conn, both.peer], [both.peer, both.conn]] as const) {
      const { state, bytesAcked = NaN } = tcpInfo(from);
      assert.equal(state, "ESTABLISHED");
      const received = tcpInfo(to).bytesReceived ?? NaN;
      await from.write(new Uint8Array(1000));
      await until("acknowledged", () => acked(from, bytesAcked) === 1000);
      assert.equal(tcpInfo(to).bytesReceived, received + 1000);
      assert.deepEqual(sendQueue(from), { sendQueueBytes: 0, notSentBytes: 0 });
    }
  });
}

Deno.test("sendQueue: what a peer that does not read leaves behind", async () => {
  using both = await pair();
  const write = overfill(both.conn);
  await until("bytes wait", () => (sendQueue(both.conn).notSentBytes ?? 0) > 0);
  const { sendQueueBytes, notSentBytes = NaN } = sendQueue(both.conn);
  assert.ok(sendQueueBytes >= notSentBytes);
  both.conn.close();
  assert.ok(await write instanceof Error);
});

Deno.test("a socket of node:net", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const serving = echo(listener);
  const socket = net.connect(listener.addr.port, "127.0.0.1");
  assert.throws(() => tcpInfo(socket), ClosedError);
  await once(socket, "connect");
  const { bytesAcked = NaN } = tcpInfo(socket);
  socket.write("one");
  await until("acknowledged", () => acked(socket, bytesAcked) === 3);
  setSocketOptions(socket, { keepAlive: { idleMs: 7000 } });
  assert.equal(socketOptions(socket).keepAlive && true, true);
  socket.destroy();
  await once(socket, "close");
  assert.throws(() => tcpInfo(socket), ClosedError);
  listener.close();
  await serving;
});

Deno.test("a request's socket of node:http, and the ends that Deno.serve tells", async () => {
  const states: string[] = [];
  const server = http.createServer((request, response) => {
    states.push(tcpInfo(request.socket).state);
    response.end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  await (await fetch(`http://127.0.0.1:${address.port}`)).body?.cancel();
  server.closeAllConnections();
  server.close();

  const options = { hostname: "127.0.0.1", port: 0, onListen() {} };
  const serve = Deno.serve(options, (_request, info) => {
    states.push(tcpInfo({ localAddr: serve.addr, remoteAddr: info.remoteAddr }).state);
    return new Response();
  });
  await (await fetch(`http://127.0.0.1:${serve.addr.port}`)).body?.cancel();
  await serve.shutdown();
  assert.deepEqual(states, ["ESTABLISHED", "ESTABLISHED"]);
});

Deno.test("TLS: the counters are those of the socket below, and count ciphertext", async (t) => {
  using directory = new TempDir();
  const made = await certificate(directory.path);
  await t.step({
    name: "TLS" + (made === undefined ? " (left out: there is no openssl)" : ""),
    ignore: made === undefined,
    async fn() {
      assert.ok(made !== undefined);
      using listener = Deno.listenTls({ hostname: "127.0.0.1", port: 0, ...made });
      const accepting = listener.accept();
      using conn = await Deno.connectTls({
        hostname: "localhost",
        port: listener.addr.port,
        caCerts: [made.cert],
      });
      using accepted = await accepting;
      await Promise.all([conn.handshake(), accepted.handshake()]);
      await until("quiet", () => sendQueue(conn).sendQueueBytes === 0);
      const { bytesAcked = NaN } = tcpInfo(conn);
      const received = tcpInfo(accepted).bytesReceived ?? NaN;
      await conn.write(new Uint8Array(1000));
      await drained(conn);
      // A record of TLS 1.3 adds 22 bytes.
      assert.equal(acked(conn, bytesAcked), 1022);
      assert.equal(tcpInfo(accepted).bytesReceived, received + 1022);

      const nodes = tls.connect({ host: "localhost", port: listener.addr.port, ca: made.cert });
      using served = await listener.accept();
      await Promise.all([served.handshake(), once(nodes, "secureConnect")]);
      nodes.write("one");
      await within("drained", drained(nodes));
      // The tickets that the server sends may be acknowledged late.
      await until(
        "both count alike",
        () => tcpInfo(nodes).bytesReceived === tcpInfo(served).bytesAcked,
      );
      nodes.destroy();
      await once(nodes, "close");
      assert.throws(() => tcpInfo(nodes), ClosedError);

      // Reset by a watch, the layer above fails as well.
      using watching = watch(conn, { stallTimeoutMs: 100, peerStallTimeoutMs: 300 });
      const reading = assert.rejects(conn.read(new Uint8Array(1)));
      const writing = (async () => {
        for (;;) await conn.write(new Uint8Array(256 * 1024));
      })();
      await within("both fail", Promise.all([assert.rejects(writing), reading]));
      assert.equal(watching.signal.aborted, true);
    },
  });
});

Deno.test("setSocketOptions: sets what is given, and nothing else", async () => {
  using both = await pair();
  const before = socketOptions(both.conn);
  const after = setSocketOptions(both.conn, {
    keepAlive: { idleMs: 10_000, intervalMs: 1000, count: 3 },
    userTimeoutMs: 42_000,
  });
  assert.deepEqual(after, {
    ...before,
    keepAlive: { idleMs: 10_000, intervalMs: 1000, count: 3 },
    userTimeoutMs: 42_000,
  });
  assert.deepEqual(socketOptions(both.conn), after);
  // One of its times alone leaves the others, and `false` switches it off.
  assert.deepEqual(setSocketOptions(both.conn, { keepAlive: { count: 5 } }).keepAlive, {
    idleMs: 10_000,
    intervalMs: 1000,
    count: 5,
  });
  assert.deepEqual(setSocketOptions(both.conn, { keepAlive: false, userTimeoutMs: 0 }), before);
  assert.deepEqual(setSocketOptions(both.conn, {}), before);
  assert.equal(setSocketOptions(both.conn, { noDelay: !before.noDelay }).noDelay, !before.noDelay);
});

Deno.test("setSocketOptions: a value out of range changes nothing, a refused one is named", async () => {
  using both = await pair();
  const before = socketOptions(both.conn);
  assert.throws(
    () => setSocketOptions(both.conn, { userTimeoutMs: 5000, keepAlive: { count: 128 } }),
    (error) => error instanceof OptionError && error.option === "keepAlive.count",
  );
  assert.throws(
    () => setSocketOptions(both.conn, { congestion: "nonesuch" }),
    (error) => error instanceof SocketOptionError && error.option === "congestion",
  );
  assert.deepEqual(socketOptions(both.conn), before);
});

Deno.test("after a reset the last state and the error can be read, until the owner closes", async () => {
  using both = await pair();
  const { bytesAcked } = tcpInfo(both.conn);
  assert.equal(socketError(both.conn), undefined);
  resetBy(both.peer);
  await until("it is dead", () => tcpInfo(both.conn).state === "CLOSE");
  assert.equal(tcpInfo(both.conn).bytesAcked, bytesAcked);
  assert.equal(socketError(both.conn), "ECONNRESET");
  assert.equal(socketError(both.conn), undefined, "an error is told once");
  both.conn.close();
  assert.throws(() => tcpInfo(both.conn), ClosedError);
  assert.throws(() => socketError(both.conn), ClosedError);
  assert.throws(() => setSocketOptions(both.conn, {}), ClosedError);
});

Deno.test("a connection that had died before it was looked at is told as closed", async () => {
  using both = await pair();
  resetBy(both.peer);
  await assert.rejects(both.conn.read(new Uint8Array(1)));
  assert.throws(() => tcpInfo(both.conn), ClosedError);
});

Deno.test("a descriptor that belongs to another connection by now is never read", async () => {
  using first = await pair();
  tcpInfo(first.conn);
  first.conn.close();
  // The lowest free descriptor is given out again: one of these has it.
  using second = await pair();
  using third = await pair();
  assert.throws(() => tcpInfo(first.conn), ClosedError);
  assert.throws(() => sendQueue(first.conn), ClosedError);
  assert.throws(() => setSocketOptions(first.conn, { userTimeoutMs: 1234 }), ClosedError);
  for (const conn of [second.conn, second.peer, third.conn, third.peer]) {
    assert.equal(socketOptions(conn).userTimeoutMs, 0);
  }
});

Deno.test("no call leaves a descriptor behind, and none delays the FIN", async () => {
  using both = await pair();
  const cookie = cookieOf(both.conn);
  tcpInfo(both.conn);
  sendQueue(both.conn);
  setSocketOptions(both.conn, { noDelay: true });
  socketError(both.conn);
  assert.deepEqual(descriptorsOf([cookie]), [1]);
  both.conn.close();
  assert.equal(await both.peer.read(new Uint8Array(1)), null);
});

Deno.test("the ends alone find the connection, and others of the same peer are told apart", async () => {
  using first = await pair();
  using second = await pair();
  setSocketOptions(endsAlone(first.conn), { userTimeoutMs: 1111 });
  setSocketOptions(endsAlone(second.peer), { userTimeoutMs: 2222 });
  const timeouts = [first.conn, first.peer, second.conn, second.peer]
    .map((conn) => socketOptions(conn).userTimeoutMs);
  assert.deepEqual(timeouts, [1111, 0, 0, 2222]);
});

Deno.test("what is no TCP connection is a TypeError", () => {
  const end = { transport: "unix", path: "/run/some.sock" };
  // JavaScript may pass anything.
  for (const value of [{ localAddr: end, remoteAddr: end }, {}]) {
    assert.throws(() => Reflect.apply(tcpInfo, undefined, [value]), TypeError);
  }
});

/** What a program prints that imports the functions. */
async function printed(body: string, ...flags: string[]): Promise<string> {
  using directory = new TempDir();
  const file = `${directory.path}/program.ts`;
  const tcp = new URL("../../src/tcp/tcp.ts", import.meta.url);
  Deno.writeTextFileSync(file, `import * as tcp from "${tcp}";\n${body}`);
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-prompt", "--no-check", ...flags, file],
  }).output();
  return new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
}

Deno.test("permissions: the C library's path is enough, and without it the error has the flag", async () => {
  const body = `
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    using conn = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
    try {
      tcp.setSocketOptions(conn, { keepAlive: { idleMs: 1000 } });
      using watching = tcp.watch(conn);
      await conn.write(new Uint8Array(10));
      await tcp.drained(conn, watching.signal);
      console.log(tcp.tcpInfo(conn).state, watching.verdict.kind);
    } catch (error) {
      console.log(error.name, error.message);
    }`;
  const net = "--allow-net=127.0.0.1";
  assert.equal(await printed(body, net, `--allow-ffi=${libcGrant()}`), "ESTABLISHED healthy\n");
  assert.match(await printed(body, net), /^NotCapable .*run again with --allow-ffi=\/\S+\.\n$/);
});

Deno.test("servers on 0.0.0.0 and ::, with IPv4 on a socket for IPv6 (v4-mapped)", async () => {
  const body = `
    for (const hostname of ["0.0.0.0", "::"]) {
      const listener = Deno.listen({ hostname, port: 0 });
      const { port } = listener.addr;
      const conn = await Deno.connect({ hostname: "127.0.0.1", port });
      const accepted = await listener.accept();
      tcp.setSocketOptions(accepted, { userTimeoutMs: 1111 });
      const ends = { localAddr: listener.addr, remoteAddr: accepted.remoteAddr };
      const both = [conn, accepted, ends].map((one) => tcp.socketOptions(one).userTimeoutMs);
      console.log(accepted.remoteAddr.hostname, both);
      for (const one of [conn, accepted, listener]) one.close();
    }`;
  const flags = ["--allow-net", `--allow-ffi=${libcGrant()}`];
  assert.equal(
    await printed(body, ...flags),
    "127.0.0.1 [ 0, 1111, 1111 ]\n::ffff:127.0.0.1 [ 0, 1111, 1111 ]\n",
  );
});

Deno.test("the entry brings no queue and nothing from npm, and the sender's does not bring it", async () => {
  const modulesOf = async (entry: string): Promise<string[]> => {
    const { stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["info", "--json", new URL(`../../${entry}`, import.meta.url).href],
    }).output();
    const { modules } = JSON.parse(new TextDecoder().decode(stdout));
    return modules.map(({ specifier }: { specifier: string }) => specifier);
  };
  const [tcp, sender] = [await modulesOf("src/tcp/tcp.ts"), await modulesOf("mod.ts")];
  assert.ok(tcp.length > 10, `only ${tcp.length} modules were found`);
  const allowed = /\/src\/(base|delivery|kernel|tcp)\/\w+\.ts$/;
  assert.deepEqual(tcp.filter((specifier) => !allowed.test(specifier)), []);
  assert.deepEqual(sender.filter((specifier) => specifier.includes("/src/tcp/")), []);
});
