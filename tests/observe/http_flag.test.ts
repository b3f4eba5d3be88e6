import assert from "node:assert/strict";
import { relayPermissions, sendPermissions, Sendq, withFewFiles } from "../cli/helpers.ts";
import { ReadingServer, ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";
import { answerOf } from "./helpers.ts";

/** What `send` needs anyway, with more to listen on and to read. */
function permissions(
  remote: string,
  { queue }: TempDir,
  more: { readonly net: string; readonly read?: string },
): string[] {
  return sendPermissions(remote, queue).map((flag) => {
    if (flag.startsWith("--allow-net=")) return `${flag},${more.net}`;
    if (flag.startsWith("--allow-read=") && more.read !== undefined) return `${flag},${more.read}`;
    return flag;
  });
}

Deno.test("send --http serves the status page, and takes it away at the end", async () => {
  using directory = new TempDir();
  await using server = new ReadingServer();
  const port = ScriptedServer.freePort();
  await using sendq = new Sendq(
    permissions(server.remote, directory, { net: `127.0.0.1:${port}` }),
    ["send", server.remote, "--queue", directory.queue, "--http", `127.0.0.1:${port}`],
  );
  await sendq.write("one\n");
  await sendq.says(/status page: http:\/\/127\.0\.0\.1:\d+\//);
  const get = (path: string) => answerOf(fetch(`http://127.0.0.1:${port}${path}`));
  assert.equal((await get("/healthz")).status, 200);
  assert.match((await get("/")).text, /<title>sendq<\/title>/);
  assert.match((await get("/metrics")).text, /^sendq_queue_packets\{/m);
  await sendq.endInput();
  assert.equal(await sendq.ended(), 0, sendq.stderr);
  assert.equal(server.text, "one\n");
  await assert.rejects(get("/healthz"));
});

Deno.test("send --http says which permission is missing", async () => {
  using directory = new TempDir();
  const remote = "tcp://127.0.0.1:4000";
  await using sendq = new Sendq(sendPermissions(remote, directory.queue), [
    ...["send", remote, "--queue", directory.queue, "--http", "127.0.0.1:9465"],
  ]);
  assert.equal(await sendq.runWith(""), 77);
  assert.match(sendq.stderr, /--allow-net=127\.0\.0\.1:9465/);
});

Deno.test("send --http needs a usable address, a token beyond loopback, and a free port", async () => {
  using directory = new TempDir();
  const remote = "tcp://127.0.0.1:4000";
  const short = directory.file("short");
  Deno.writeTextFileSync(short, "short");
  const cases: [args: string[], code: number, words: RegExp][] = [
    [["--http", "9465"], 2, /Expected HOST:PORT/],
    [["--http-payloads"], 2, /need --http/],
    [["--http", "0.0.0.0:9465"], 2, /not a loopback address/],
    [["--http", "0.0.0.0:9465", "--http-token-file", `${directory.path}/none`], 2, /No such file/],
    [["--http", "0.0.0.0:9465", "--http-token-file", short], 2, /must have 16 or more/],
  ];
  for (const [args, code, words] of cases) {
    await using sendq = new Sendq(
      permissions(remote, directory, { net: "0.0.0.0:9465", read: directory.path }),
      ["send", remote, "--queue", directory.queue, ...args],
    );
    assert.equal(await sendq.runWith(""), code, sendq.stderr);
    assert.match(sendq.stderr, words);
    assert.throws(() => Deno.statSync(directory.queue), Deno.errors.NotFound);
  }
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const address = `127.0.0.1:${taken.addr.port}`;
  await using sendq = new Sendq(
    permissions(remote, directory, { net: address }),
    ["send", remote, "--queue", directory.queue, "--http", address],
  );
  assert.equal(await sendq.runWith(""), 1);
  assert.match(sendq.stderr, /--http: 127\.0\.0\.1:\d+ is in use already/);
});

Deno.test("send --http-token-file: the token is the file's text", async () => {
  using directory = new TempDir();
  const token = "a token of some length".replaceAll(" ", "-");
  const file = `${directory.path}/token`;
  await Deno.writeTextFile(file, `${token}\n`);
  await using server = new ReadingServer();
  const port = ScriptedServer.freePort();
  await using sendq = new Sendq(
    permissions(server.remote, directory, { net: `127.0.0.1:${port}`, read: file }),
    [
      ...["send", server.remote, "--queue", directory.queue, "--input", "none"],
      ...["--http", `127.0.0.1:${port}`, "--http-token-file", file],
    ],
  );
  await sendq.says(/status page:/);
  const get = (headers: Record<string, string>) =>
    answerOf(fetch(`http://127.0.0.1:${port}/status`, { headers }));
  assert.equal((await get({})).status, 401);
  assert.equal((await get({ authorization: `Bearer ${token}` })).status, 200);
});

Deno.test("relay --http serves the same page, about what its clients sent", async () => {
  using directory = new TempDir();
  await using server = new ReadingServer();
  const listen = `tcp://127.0.0.1:${ScriptedServer.freePort()}`;
  const http = `127.0.0.1:${ScriptedServer.freePort()}`;
  const grants = relayPermissions(listen, server.remote, directory.queue)
    .map((flag) => flag.startsWith("--allow-net=") ? `${flag},${http}` : flag);
  await using relay = new Sendq(grants, [
    ...["relay", "--listen", listen, "--to", server.remote, "--queue", directory.queue],
    ...["--http", http],
  ]);
  await relay.says(/status page: /);
  const { hostname, port } = new URL(listen.replace("tcp:", "http:"));
  using client = await Deno.connect({ hostname, port: Number(port) });
  await client.write(new TextEncoder().encode("one\ntwo\n"));
  await until("both are delivered", () => server.text === "one\ntwo\n");
  const metrics = await answerOf(fetch(`http://${http}/metrics`));
  assert.match(metrics.text, /^sendq_queue_stored_packets_total\{.*\} 2$/m);
  assert.equal((await answerOf(fetch(`http://${http}/healthz`))).status, 200);
});

Deno.test("send --http: readers that take every descriptor do not end the delivery", async () => {
  using directory = new TempDir();
  const serverPort = ScriptedServer.freePort();
  const remote = `tcp://127.0.0.1:${serverPort}`;
  const port = ScriptedServer.freePort();
  const command = [
    ...[Deno.execPath(), "run", "--quiet"],
    ...permissions(remote, directory, { net: `127.0.0.1:${port}` }),
    ...[new URL("../../src/cli/main.ts", import.meta.url).pathname, "send", remote],
    ...["--queue", directory.queue, "--http", `127.0.0.1:${port}`],
  ];
  await using sendq = new Deno.Command("sh", {
    args: ["-c", `ulimit -n 64; exec "$@"`, "sh", ...command],
    stdin: "piped",
    stderr: "null",
  }).spawn();
  const input = sendq.stdin.getWriter();
  await input.write(new TextEncoder().encode("one\n"));
  await until("the page", async () => {
    try {
      return (await answerOf(fetch(`http://127.0.0.1:${port}/healthz`))).status === 200;
    } catch {
      return false;
    }
  });
  const readers: Deno.TcpConn[] = [];
  try {
    for (let i = 0; i < 150; i++) {
      const reader = await Deno.connect({ hostname: "127.0.0.1", port });
      readers.push(reader);
      await reader.write(new TextEncoder().encode("GET / HTTP/1.1\r\nHost: x\r\nX-a: b"));
    }
    // The connection to the server, which is made only now, finds its descriptors.
    await using server = new ReadingServer({ port: serverPort });
    await until("the first packet", () => server.text === "one\n");
    assert.equal((await answerOf(fetch(`http://127.0.0.1:${port}/healthz`))).status, 200);
    await input.write(new TextEncoder().encode("two\n"));
    await input.close();
    assert.equal((await sendq.status).code, 0);
    assert.equal(server.text, "one\ntwo\n");
  } finally {
    for (const reader of readers) reader.close();
  }
});

Deno.test("relay --http: clients that take every descriptor leave some to whoever asks for its health", async () => {
  using directory = new TempDir();
  const remote = `tcp://127.0.0.1:${ScriptedServer.freePort()}`;
  const port = ScriptedServer.freePort();
  const http = `127.0.0.1:${ScriptedServer.freePort()}`;
  const listen = `tcp://127.0.0.1:${port}`;
  const permissions = relayPermissions(listen, remote, directory.queue)
    .map((flag) => flag.startsWith("--allow-net=") ? `${flag},${http}` : flag);
  await using relay = withFewFiles(64, permissions, [
    ...["relay", "--listen", listen, "--to", remote, "--queue", directory.queue, "--http", http],
  ]);
  const clients: Deno.TcpConn[] = [];
  try {
    await relay.says(/listening on/);
    await until("some are turned away", async () => {
      // It may be reset before Deno has asked for the other end's address.
      await Deno.connect({ hostname: "127.0.0.1", port }).then(
        (one) => clients.push(one),
        () => {},
      );
      return /clients are turned away/.test(relay.stderr);
    });
    const readers = Array.from({ length: 3 }, () => answerOf(fetch(`http://${http}/healthz`)));
    for (const { status } of await Promise.all(readers)) assert.equal(status, 200);
  } finally {
    for (const client of clients) client.close();
  }
});
