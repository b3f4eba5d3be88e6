/** The command through proxies and from a source, with the permissions that it names itself. */
import assert from "node:assert/strict";
import { LIBC, runHere, runWith, sendPermissions } from "../cli/helpers.ts";
import { testUnless } from "../kernel/helpers.ts";
import { lines } from "../support/packets.ts";
import { ReadingServer, ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";
import { noKernel, PROXIES, RunningProxy } from "./programs.ts";
import { ScriptedProxy } from "./scripted_proxy.ts";

/** The permissions of `send` for another end than the server, and these files to read. */
function permissionsFor(net: string, queue: string, files: readonly string[] = []): string[] {
  return sendPermissions(net, queue).map((flag) =>
    flag.startsWith("--allow-read=") ? [flag, ...files].join(",") : flag
  );
}

for (const program of PROXIES) {
  testUnless(
    noKernel ?? program.obstacle,
    `${program.name}: send and probe need the proxy, its credentials and no more`,
    async () => {
      using dir = new TempDir();
      await using server = new ReadingServer();
      await using proxy = await RunningProxy.start(program, dir);
      const [, credentials] = /\/\/(.*)@/.exec(proxy.url()) ?? [];
      const file = dir.file("credentials");
      if (credentials !== undefined) {
        Deno.writeTextFileSync(file, `${decodeURIComponent(credentials)}\n`);
      }
      const files = credentials === undefined ? [] : [file];
      const via = ["--via", proxy.plainUrl, ...files.flatMap((f) => ["--via-credentials-file", f])];
      const end = `127.0.0.1:${proxy.port}`;
      const send = ["send", server.remote, "--queue", dir.queue, ...via];

      const refused = await runWith([], send);
      assert.equal(refused.code, 77, refused.err);
      assert.deepEqual(
        [...refused.err.matchAll(/--allow-(?:net|read|write)=\S+/g)].map(([flag]) => flag),
        permissionsFor(end, dir.queue).slice(0, 3).map((flag) =>
          flag.startsWith("--allow-read=") && files.length > 0
            ? flag.replace(/$/, `,${file}`)
            : flag
        ),
      );

      const ran = await runWith(permissionsFor(end, dir.queue, files), send, lines(300));
      assert.equal(ran.code, 0, ran.err);
      assert.match(ran.err, /done: 300 packets delivered/);
      assert.match(ran.err, new RegExp(`connections go through the proxy ${proxy.plainUrl}: what`));
      await until("all is read", () => server.text === lines(300));

      const grants = [
        `--allow-net=${end}`,
        `--allow-ffi=${LIBC}`,
        ...files.map((f) => `--allow-read=${f}`),
      ];
      const probe = await runWith(grants, [
        ...["probe", server.remote, "--seconds", "0.1"],
        ...via,
      ]);
      assert.equal(probe.code, 0, probe.err + probe.out);
      assert.match(
        probe.out,
        new RegExp(`^via +${proxy.plainUrl}: what follows is of the way to the proxy$`, "m"),
      );
      assert.match(probe.out, /^verdict +healthy: the proxy's kernel answers; the server behind/m);
      for (const text of [ran.err, probe.out, refused.err]) {
        if (program.password !== undefined) assert.ok(!text.includes(program.password), text);
      }
    },
  );
}

testUnless(
  noKernel,
  "probe: what a proxy refuses is said in its words, and is JSON's",
  async () => {
    await using proxy = new ScriptedProxy(async (connection) => {
      await connection.readUntil("\r\n\r\n");
      await connection.write("HTTP/1.1 403 Forbidden\r\n\r\n");
      connection.close();
    });
    const url = proxy.url("http://user:hush@");
    const args = ["probe", "tcp://legacy:4000", "--via", url];
    const { code, out } = await runHere(args);
    assert.equal(code, 1);
    const plain = url.replace("user:hush@", "");
    assert.match(
      out,
      new RegExp(
        `^verdict +cannot connect: the proxy ${plain}: it did not connect to legacy:4000: ` +
          `it said "HTTP/1\\.1 403 Forbidden" \\(PROXY_REFUSED\\)$`,
        "m",
      ),
    );
    const json = JSON.parse((await runHere([...args, "--json"])).out);
    assert.deepEqual([json.verdict, json.code], ["unreachable", "PROXY_REFUSED"]);
    assert.ok(!out.includes("hush") && !JSON.stringify(json).includes("hush"));

    const gone = `socks5://127.0.0.1:${ScriptedServer.freePort()}`;
    const refused = await runHere(["probe", "tcp://legacy:4000", "--via", gone]);
    assert.match(
      refused.out,
      new RegExp(`the proxy ${gone}: connection refused \\(ECONNREFUSED\\)`),
    );
  },
);

testUnless(noKernel, "send and probe from a source need it, and no other permission", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  const end = server.remote.replace("tcp://", "");
  const port = ScriptedServer.freePort();
  for (const [source, grant] of [["127.0.0.1", "127.0.0.1:0"], [`127.0.0.1:${port}`, null]]) {
    const net = `${end},${grant ?? source}`;
    const send = ["send", server.remote, "--queue", dir.queue, "--source", String(source)];
    const refused = await runWith(permissionsFor(end, dir.queue), send);
    assert.equal(refused.code, 77, refused.err);
    assert.ok(refused.err.includes(`--allow-net=${grant ?? source}`), refused.err);
    const before = server.text.length;
    const ran = await runWith(permissionsFor(net, dir.queue), send, lines(50));
    assert.equal(ran.code, 0, ran.err);
    await until("all is read", () => server.text.slice(before) === lines(50));
    const probe = await runWith([`--allow-net=${net}`, `--allow-ffi=${LIBC}`], [
      ...["probe", server.remote, "--source", String(source), "--seconds", "0.1"],
    ]);
    assert.equal(probe.code, 0, probe.err + probe.out);
    assert.match(probe.out, new RegExp(`from ${source}`));
  }
});

Deno.test("a source of a name's server needs every port of the host", async () => {
  const { err } = await runWith([], [
    ...["probe", "tcp://legacy:4000", "--source", "192.0.2.1"],
  ]);
  assert.match(err, /--allow-net=legacy,192\.0\.2\.1:0 /);
});

Deno.test("wrong options of the way are named by their flags, and show no secrets", async (t) => {
  using dir = new TempDir();
  const credentials = dir.file("credentials");
  Deno.writeTextFileSync(credentials, "hush\n");
  const twoLines = dir.file("two-lines");
  Deno.writeTextFileSync(twoLines, "user:hush\n# of the proxy\n");
  const via = ["--via", "socks5://localhost:1080"];
  const cases: [args: string[], words: RegExp, remote?: string][] = [
    [["--via", "proxy:1080"], /--via must be socks5:\/\/HOST:PORT or http:\/\/HOST:PORT, with/],
    [["--via", "https://u:hush@proxy:443"], /--via must be .*; it begins with https:\/\//],
    [["--via", "socks5://u:hush@proxy"], /--via must be socks5/],
    [["--via", "socks5://hush@proxy:1"], /--via must be USER:PASSWORD/],
    [[...via, "--via-credentials-file", credentials], /--via-credentials-file must be USER:PASS/],
    [[...via, "--via-credentials-file", twoLines], /-file must be one line, USER:PASSWORD/],
    [[...via, "--via-credentials-file", dir.file("none")], /-file: .*none cannot be read: No such/],
    [["--via-credentials-file", credentials], /--via-credentials-file needs --via/],
    [["--via-handshake-timeout", "5s"], /--via-handshake-timeout needs --via/],
    [[...via, "--via-handshake-timeout", "5ms"], /--via-handshake-timeout .*from 100ms to/],
    [["--source", "eth0"], /--source must be an address of this host/],
    [["--source", "192.0.2.1:0"], /--source must be an address of this host/],
    [["--source", "::1"], /--source must be of the same kind as 127\.0\.0\.1: one is IPv4/],
    [[...via], /a zone|its zone is an interface of this host/, "tcp://[fe80::1%lo]:4000"],
  ];
  for (const [args, expected, remote = "tcp://127.0.0.1:4000"] of cases) {
    for (const command of [["send", remote, "-q", dir.queue], ["probe", remote]]) {
      await t.step([command[0], ...args].join(" "), async () => {
        const { code, err } = await runHere([...command, ...args]);
        assert.equal(code, 2, err);
        assert.match(err, expected);
        assert.doesNotMatch(err, /hush/);
      });
    }
  }
  const listen = ["send", "listen://127.0.0.1:4000", "-q", dir.queue];
  assert.match(
    (await runHere([...listen, ...via])).err,
    /--via is for a server that we connect to/,
  );
  assert.match(
    (await runHere([...listen, "--source", "127.0.0.1"])).err,
    /--source is for a server that we connect to/,
  );
  const unix = ["send", `unix:${dir.file("socket")}`, "-q", dir.queue];
  assert.match((await runHere([...unix, ...via])).err, /--via is for a server on the network/);
  assert.match(
    (await runHere([...unix, "--source", "127.0.0.1"])).err,
    /--source is for a server on the network/,
  );
});

Deno.test("a route file has the same, and names the proxy without what is secret", async () => {
  using dir = new TempDir();
  const route = dir.file("route.json");
  const credentials = dir.file("credentials");
  Deno.writeTextFileSync(credentials, "user:hush");
  const write = (more: object) =>
    Deno.writeTextFileSync(
      route,
      JSON.stringify({ queue: dir.queue, remote: "tcp://legacy:4000", ...more }),
    );
  write({ via: { url: "socks5://localhost:1080", credentials, handshakeTimeoutMs: "5s" } });
  const sound = await runHere(["run", "--check", route]);
  assert.equal(sound.code, 0, sound.err);
  assert.match(sound.out, /to tcp:\/\/legacy:4000 over the proxy socks5:\/\/localhost:1080/);
  assert.match(sound.out, /--allow-net=localhost:1080 /);
  assert.ok(!/hush/.test(sound.out + sound.err));
  write({ source: "127.0.0.1:5000", remote: "tcp://127.0.0.1:4000" });
  assert.match(
    (await runHere(["run", "--check", route])).out,
    /-net=127.0.0.1:4000,127.0.0.1:5000/,
  );

  const wrong: [more: object, words: RegExp][] = [
    [{ via: "socks5://localhost:1080" }, /via must be an object/],
    [{ via: {} }, /via: "url" is missing/],
    [{ via: { url: "ftp://u:hush@p:1" } }, /must be socks5:\/\/HOST:PORT/],
    [{ via: { url: "socks5://p:1", credentials: dir.file("none") } }, /none cannot be read/],
    [{ source: "nowhere" }, /source must be an address of this host/],
    [{ remote: "listen://127.0.0.1:1", via: { url: "socks5://p:1" } }, /is for a server that we/],
  ];
  for (const [more, words] of wrong) {
    write(more);
    const { code, err, out } = await runHere(["run", "--check", route]);
    assert.equal(code, 2, err);
    assert.match(err + out, words);
    assert.doesNotMatch(err + out, /hush/);
  }
});
