import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { isInstalled } from "../support/is_installed.ts";
import { ReadingServer, ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";
import { answerOf } from "../observe/helpers.ts";
import { LIBC, packetsIn, runHere, runWith, Sendq } from "./helpers.ts";

/** A route file in a directory of its own. */
class Routes implements Disposable {
  readonly directory = new TempDir();
  readonly path = this.directory.file("route.json");

  constructor(json: unknown) {
    this.write(json);
  }

  write(json: unknown): void {
    Deno.writeTextFileSync(this.path, typeof json === "string" ? json : JSON.stringify(json));
  }

  /** What `--check` says is needed, and nothing else. */
  async flags(): Promise<string[]> {
    const { out } = await runWith([`--allow-read=${this.path}`], ["run", "--check", this.path]);
    const [, flags = ""] = /^deno run needs: (.*)$/m.exec(out) ?? [];
    assert.notEqual(flags, "", out);
    return flags.split(" ");
  }

  /** Runs it with exactly these. */
  async run(...args: string[]): Promise<Sendq> {
    return new Sendq(["--no-prompt", ...await this.flags()], ["run", this.path, ...args]);
  }

  [Symbol.dispose](): void {
    this.directory[Symbol.dispose]();
  }
}

async function enqueue(routes: Routes, route: string | undefined, ...texts: string[]) {
  const which = route === undefined ? [] : ["--route", route];
  const { code, err } = await runHere(["enqueue", "--config", routes.path, ...which, ...texts]);
  assert.equal(code, 0, err);
}

/** Sets how many files a process may have open, or says it. */
async function fileLimit(pid: number, soft?: string): Promise<string> {
  const what = soft === undefined ? "--nofile" : `--nofile=${soft}:`;
  const args = ["--pid", `${pid}`, what, "--output", "SOFT", "--noheadings"];
  const { success, stdout } = await new Deno.Command("prlimit", { args }).output();
  assert(success);
  return new TextDecoder().decode(stdout).trim();
}

Deno.test("a route runs with exactly the permissions that --check names", async () => {
  await using server = new ReadingServer();
  const listen = `tcp://127.0.0.1:${ScriptedServer.freePort()}`;
  using routes = new Routes("");
  Deno.writeTextFileSync(routes.directory.file("password.txt"), "AUTH hunter2\n");
  routes.write({
    queue: routes.directory.queue,
    remote: server.remote,
    relay: { listen: [listen] },
    session: { open: [{ send: { file: routes.directory.file("password.txt") } }] },
    holdMs: 0,
  });
  await using sendq = await routes.run();
  await sendq.says(/listening on/);
  const client = await Deno.connect({ port: Number(new URL(listen).port) });
  await client.write(new TextEncoder().encode("one\n"));
  client.close();
  await until("the packet behind the password", () => server.text === "AUTH hunter2one\n");
  sendq.child.kill("SIGTERM");
  assert.equal(await sendq.ended(), 0, sendq.stderr);
});

Deno.test("a route to a server that connects to us needs no more than its address", async () => {
  using routes = new Routes("");
  const port = ScriptedServer.freePort();
  routes.write({
    queue: routes.directory.queue,
    remote: `listen://127.0.0.1:${port}?from=127.0.0.1`,
    holdMs: 0,
  });
  const net = (await routes.flags()).filter((flag) => flag.startsWith("--allow-net"));
  assert.deepEqual(net, [`--allow-net=127.0.0.1:${port}`]);
  await using sendq = await routes.run();
  await sendq.says(/waiting for a connection on listen:/);
  await enqueue(routes, undefined, "one");
  const server = await Deno.connect({ port });
  const buffer = new Uint8Array(16);
  assert.equal(await server.read(buffer), 4);
  sendq.child.kill("SIGTERM");
  assert.equal(await server.read(buffer), null);
  server.close();
  assert.equal(await sendq.ended(), 0, sendq.stderr);
  for (const from of ["host", "10.0.0.0/99"]) {
    routes.write({ queue: "q.db", remote: `listen://127.0.0.1:${port}?from=${from}` });
    assert.match(
      (await runHere(["run", "--check", routes.path])).out,
      /route\.json:1:\d+: remote: .*no address and no network|has more bits than an address/,
    );
  }
});

Deno.test("--check says all that is wrong, starts nothing, and needs only the file", async () => {
  using routes = new Routes("");
  const { queue } = routes.directory;
  routes.write(`{
  "queue": ${JSON.stringify(queue)},
  "remote": "tcp://127.0.0.1:4000",
  "responseTimeoutMs": "5s",
  "holdMs": "1s",
  "session": { "open": [{ "send": { "file": "/nowhere/password.txt" } }] },
  "http": { "address": "0.0.0.0:9465", "bogus": 1 }
}`);
  const { code, out } = await runHere(["run", "--check", routes.path]);
  assert.equal(code, 2);
  const lines = out.trimEnd().split("\n").map((line) => line.replace(`${routes.path}:`, ""));
  assert.deepEqual(lines.map((line) => line.split(": ")[0]), ["5:13", "6:24", "7:24", "7:40"]);
  assert.match(lines.join("\n"), /7:24: http\.address needs a token where it is not a loopback/);
  assert.match(lines.join("\n"), /holdMs must be more than responseTimeoutMs/);
  assert.match(lines.join("\n"), /\/nowhere\/password\.txt cannot be read: there is none/);
  assert.match(lines.join("\n"), /there is no "bogus" in http/);
  assert.throws(() => Deno.statSync(queue), Deno.errors.NotFound);
  const started = await runHere(["run", routes.path]);
  assert.equal(started.code, 2);
  assert.match(started.err, /has mistakes, nothing was started:\n/);
  // The same lines, about the fields as they are called in the file.
  assert(started.err.includes(out.trimEnd()), started.err);
  routes.write({ queue, remote: "tcp://127.0.0.1:4000" });
  const asked = await runWith([`--allow-read=${routes.path}`], ["run", "--check", routes.path]);
  assert.equal(asked.code, 77, asked.err);
  assert.match(asked.out, /missing here.*--allow-net=127\.0\.0\.1:4000/);
  assert.equal((await runHere(["run", "--check", routes.path])).code, 0);
  // Who has all of it is told no more than that: of the C library the path that is granted.
  const flags = (await routes.flags())
    .map((flag) => flag.startsWith("--allow-ffi") ? `--allow-ffi=${LIBC}` : flag);
  const granted = await runWith(flags, ["run", "--check", routes.path]);
  assert.equal(granted.code, 0, granted.err);
  assert(granted.out.endsWith(`\ndeno run needs: ${flags.join(" ")}\n`), granted.out);
});

Deno.test("--check says a mistake once, and nothing of what would follow from it", async () => {
  using routes = new Routes("");
  const cases: [object, RegExp][] = [
    [{ relay: { listen: ["127.0.0.1:4001"] } }, /^relay\.listen\[0\]: "127\.0\.0\.1:4001" /],
    [{ session: { open: [{ expect: "/OK/" }] } }, /^session\.open\[0\]\.expect: a pattern is \{/],
    [{ session: { open: [{ expect: { regexp: "(" } }] } }, /^session\.open\[0\]\.expect: invalid /],
    [{ session: { heartbeat: { expect: "x" } } }, /^session\.heartbeat: "send" is missing /],
    [{ confirm: { framing: "lines", accepted: "OK" } }, /^confirm: "level" is missing /],
    [{ queue: "" }, /^queue must be text in quotes, not empty$/],
  ];
  for (const [wrong, expected] of cases) {
    routes.write({ queue: routes.directory.queue, remote: "tcp://127.0.0.1:4000", ...wrong });
    const { code, out } = await runHere(["run", "--check", routes.path]);
    assert.equal(code, 2);
    const [line = "", ...others] = out.trimEnd().split("\n");
    assert.deepEqual(others, []);
    assert.match(line.replace(/^.*?:\d+:\d+: /, ""), expected);
  }
});

Deno.test("--check says where values stand that cannot go together, as the file calls them", async () => {
  using routes = new Routes("");
  const { queue } = routes.directory;
  const cases: [string, RegExp][] = [
    ['"remote": "tcp://h:1",\n"via": { "url": "ftp://x" }', /^3:17: via\.url must be socks5:/],
    ['"remote": "tcp://[::1]:1",\n"source": "10.0.0.1"', /^3:11: source must be of the same kind/],
    [
      '"remote": "tcp://h:1", "relay": { "listen": ["unix:/x"] }, "input": "length32",\n' +
      '"queueOptions": { "maxPacketBytes": 4 }',
      /^3:37: maxPacketBytes must be more than the 4 bytes that length32 framing takes, got 4$/m,
    ],
    [
      '"remote": "tcp://h:1",\n"confirm": { "level": "answer" }',
      /^3:23: confirm\.level answer needs confirm\.accepted: [^\n]*\n$/,
    ],
  ];
  for (const [text, expected] of cases) {
    routes.write(`{ "queue": ${JSON.stringify(queue)},\n${text} }`);
    const { code, out } = await runHere(["run", "--check", routes.path]);
    assert.equal(code, 2, out);
    assert.match(out.slice(routes.path.length + 1), expected);
  }
});

Deno.test("--check looks at the options, certificates and keys of TLS", async () => {
  using routes = new Routes("");
  const { queue } = routes.directory;
  const file = (name: string) => new URL(`../tls/certificates/${name}`, import.meta.url).pathname;
  const [cert, key, other] = ["client.pem", "client.key", "other.key"].map(file);
  const cases: [tls: Record<string, unknown>, expected: RegExp | undefined][] = [
    [{ cert, key }, undefined],
    [{ cert, key: other }, /^1:\d+: tls\.key does not belong to tls\.cert/],
    [{ key }, /^1:\d+: tls\.key needs tls\.cert/],
    [{ minVersion: "TLSv1.3", maxVersion: "TLSv1.2" }, /^1:\d+: tls\.minVersion must not be newer/],
    [{ maxVersion: "TLSv1.2" }, undefined],
  ];
  for (const [tls, expected] of cases) {
    routes.write({ queue, remote: "tls://127.0.0.1:4000", tls });
    const { code, out } = await runHere(["run", "--check", routes.path]);
    assert.equal(code, expected === undefined ? 0 : 2, out);
    if (expected !== undefined) assert.match(out.slice(routes.path.length + 1), expected);
  }
  const args = ["run", "--check", routes.path, "--confirm", "reader"];
  const { code, out } = await runHere(args);
  assert.equal(code, 2, out);
  assert.match(out, /tls\.maxVersion must not be TLSv1\.2 with confirm "reader"/);
});

Deno.test("--check looks at the status page's token, once for all routes", async () => {
  using routes = new Routes("");
  const { directory } = routes;
  const tokenFile = directory.file("token");
  Deno.writeTextFileSync(tokenFile, "short");
  const [a, b] = ["a", "b"].map((name) => ({
    queue: directory.file(`${name}.db`),
    remote: "tcp://127.0.0.1:4000",
  }));
  routes.write({ routes: { a, b }, http: { address: "127.0.0.1:9465", tokenFile } });
  for (const args of [["run", "--check"], ["run"]]) {
    const { code, out, err } = await runHere([...args, routes.path]);
    assert.equal(code, 2);
    const told = (out + err).match(/: http\.tokenFile names a token that must have 16 or more/g);
    assert.equal(told?.length, 1, out + err);
  }
  Deno.writeTextFileSync(tokenFile, "0123456789abcdef");
  assert.equal((await runHere(["run", "--check", routes.path])).code, 0);
});

Deno.test("two routes deliver beside each other, and one page shows them both", async () => {
  await using first = new ReadingServer();
  await using second = new ReadingServer();
  const port = ScriptedServer.freePort();
  using routes = new Routes("");
  const { directory } = routes;
  routes.write({
    routes: {
      plc: { queue: directory.file("plc.db"), remote: first.remote, holdMs: 0 },
      logs: { queue: directory.file("logs.db"), remote: second.remote, holdMs: 0 },
    },
    http: { address: `127.0.0.1:${port}` },
  });
  await using sendq = await routes.run();
  await sendq.says(/status page/);
  await enqueue(routes, "plc", "to the plc");
  await enqueue(routes, "logs", "to the logs");
  await until("both", () => first.text !== "" && second.text !== "");
  assert.deepEqual([first.text, second.text], ["to the plc\n", "to the logs\n"]);

  const get = (path: string) => answerOf(fetch(`http://127.0.0.1:${port}${path}`));
  const { status, text } = await get("/healthz");
  assert.equal(status, 200);
  assert.match(text, /^plc: .*\nlogs: /);
  assert.match((await get("/metrics")).text, /^sendq_queue_packets\{route="logs",remote="/m);
  assert.match((await get("/")).text, /<table class="routes">/);
  const rows = JSON.parse((await get("/routes")).text).routes;
  assert.deepEqual(
    rows.map(({ route, remote }: Record<string, string>) => [route, remote]),
    [["plc", first.remote], ["logs", second.remote]],
  );
  const reports = JSON.parse((await get("/status")).text);
  assert.equal(reports.routes.plc.remote, first.remote);
  for (const path of ["/r/plc/", "/r/plc", "/r/logs/page.js", "/r/logs/status"]) {
    assert.equal((await get(path)).status, 200, path);
  }
  assert.equal(JSON.parse((await get("/r/logs/status")).text).remote, second.remote);
  for (const path of ["/r/none/", "/r/", "/r/plc/none", "/r/%/"]) {
    assert.equal((await get(path)).status, 404, path);
  }
  sendq.child.kill("SIGTERM");
  assert.equal(await sendq.ended(), 0, sendq.stderr);
});

Deno.test("a route that fails leaves the others to go on, and is told at the end", async () => {
  await using server = new ReadingServer();
  const port = ScriptedServer.freePort();
  using routes = new Routes("");
  const { directory } = routes;
  const entry = ScriptedServer.freePort();
  const broken = directory.file("broken.db");
  Deno.writeTextFileSync(broken, "this is no database, however long it is\n".repeat(100));
  routes.write({
    routes: {
      broken: { queue: broken, remote: server.remote },
      removed: {
        queue: directory.file("removed.db"),
        remote: server.remote,
        relay: { listen: [`tcp://127.0.0.1:${entry}`] },
      },
      well: { queue: directory.file("well.db"), remote: server.remote, holdMs: 0 },
    },
    http: { address: `127.0.0.1:${port}` },
  });
  await using sendq = await routes.run();
  await sendq.says(/status page/);
  const health = () => answerOf(fetch(`http://127.0.0.1:${port}/healthz`));
  // The page is there before the routes are open.
  await until("its failure", async () => (await health()).status === 503);
  assert.match((await health()).text, /^broken: /);
  await until("the others", async () => !/Opening/.test((await health()).text));
  Deno.removeSync(`${directory.file("removed.db")}.lock`);
  await until("its end", async () => /^removed: Closed/m.test((await health()).text));
  await sendq.says(/removed: .*lock file/);
  await until("its clients are refused", async () => {
    try {
      (await Deno.connect({ port: entry })).close();
      return false;
    } catch (error) {
      return error instanceof Deno.errors.ConnectionRefused;
    }
  });
  await enqueue(routes, "well", "on and on");
  await until("the packet", () => server.text === "on and on\n");
  sendq.child.kill("SIGTERM");
  assert.equal(await sendq.ended(), 1, sendq.stderr);
});

Deno.test("a route whose queue is in use says so, holds up no other one, and is tried again", async () => {
  await using server = new ReadingServer();
  using routes = new Routes("");
  const { directory } = routes;
  const [locked, sent, well] = ["locked", "sent", "well"].map((name) => ({
    queue: directory.file(`${name}.db`),
    remote: server.remote,
    holdMs: 0,
    queueOptions: { busyTimeoutMs: 100 },
  }));
  assert(locked !== undefined && sent !== undefined);
  routes.write({ routes: { locked, sent, well } });
  for (const name of ["locked", "sent", "well"]) await enqueue(routes, name, name);
  const database = new DatabaseSync(locked.queue);
  database.exec("PRAGMA locking_mode = exclusive; BEGIN; UPDATE state SET rowid = rowid; COMMIT");
  const lock = Deno.openSync(`${sent.queue}.lock`, { read: true, write: true });
  lock.lockSync(true);
  await using sendq = await routes.run();
  await until("the one that is well", () => server.text === "well\n");
  await sendq.says(/locked: .*kept the file locked/);
  await sendq.says(/locked: not started, and tried again every 2 s/);
  await sendq.says(/sent: .*already has a sender/);
  await sendq.says(/sent: not started, and tried again every 2 s/);
  lock.close();
  await until("the second", () => server.text === "well\nsent\n");
  database.close();
  await until("the third", () => server.text === "well\nsent\nlocked\n");
  assert.equal(sendq.stderr.match(/already has a sender/g)?.length, 1);
  sendq.child.kill("SIGTERM");
  assert.equal(await sendq.ended(), 0, sendq.stderr);
});

Deno.test("a route whose address to listen on is not there yet says so, and is tried again", async () => {
  await using server = new ReadingServer();
  using routes = new Routes("");
  const { directory } = routes;
  const route = (name: string) => ({ queue: directory.file(`${name}.db`), holdMs: 0 });
  const toServer = { remote: server.remote };
  // 192.0.2.0/24 and 2001:db8::/32 are for documentation.
  routes.write({
    routes: {
      "for-server": { ...route("for-server"), remote: "listen://192.0.2.1:4000" },
      "for-clients": {
        ...route("for-clients"),
        ...toServer,
        relay: { listen: ["tcp://[2001:db8::1]:4000"] },
      },
      well: { ...route("well"), ...toServer },
    },
  });
  await using sendq = await routes.run();
  await sendq.says(
    /for-server: cannot listen at listen:.*no interface of this host has that address/,
  );
  await sendq.says(/for-server: not started, and tried again every 2 s/);
  await sendq.says(/for-clients: --listen: .*has that address, or it may not be used: .*tentative/);
  await sendq.says(/for-clients: not started, and tried again every 2 s/);
  await enqueue(routes, "well", "well");
  await until("the one that is well", () => server.text === "well\n");
  sendq.child.kill("SIGTERM");
  assert.equal(await sendq.ended(), 1, sendq.stderr);
});

Deno.test({
  name:
    "a route that is out of descriptors says so, whatever it wanted to open, and is tried again",
  ignore: !await isInstalled("prlimit"),
  fn: async () => {
    await using server = new ReadingServer();
    using routes = new Routes("");
    const { directory } = routes;
    const entry = ScriptedServer.freePort();
    const secret = directory.file("secret.txt");
    Deno.writeTextFileSync(secret, "LOGIN secret");
    const route = (name: string) => ({
      queue: directory.file(`${name}.db`),
      remote: server.remote,
      holdMs: 0,
    });
    routes.write({
      routes: {
        well: route("well"),
        clients: { ...route("clients"), relay: { listen: [`tcp://127.0.0.1:${entry}`] } },
        secret: { ...route("secret"), session: { open: [{ send: { file: secret } }] } },
      },
    });
    for (const name of ["well", "clients", "secret"]) await enqueue(routes, name, name);
    // So that they are opened again when the limit is in place.
    const locks = ["clients", "secret"].map((name) => {
      const lock = Deno.openSync(directory.file(`${name}.db.lock`), { read: true, write: true });
      lock.lockSync(true);
      return lock;
    });
    await using sendq = await routes.run();
    await until("the one that is well", () => server.text === "well\n");
    await sendq.says(/clients: not started, and tried again every 2 s/);
    await sendq.says(/secret: not started, and tried again every 2 s/);
    const { pid } = sendq.child;
    const before = await fileLimit(pid);
    await fileLimit(pid, "8");
    await sendq.says(/clients: --listen: cannot listen at .*too many open files \(EMFILE\): raise/);
    await sendq.says(/secret: the file .* cannot be read: too many open files \(EMFILE\): raise/);
    await fileLimit(pid, before);
    for (const lock of locks) lock.close();
    await until("the others", () => /clients/.test(server.text) && /secret\n/.test(server.text));
    sendq.child.kill("SIGTERM");
    assert.equal(await sendq.ended(), 0, sendq.stderr);
  },
});

Deno.test("SIGHUP changes what can change, names what cannot, and reads secrets anew", async () => {
  await using server = new ScriptedServer().start();
  const texts = server.readAll();
  using routes = new Routes("");
  const { directory } = routes;
  const secret = directory.file("password.txt");
  Deno.writeTextFileSync(secret, "old ");
  const route = {
    queue: directory.queue,
    remote: server.remote,
    maxPacketsPerSecond: 0.001,
    holdMs: 0,
    session: { open: [{ send: { file: secret } }] },
  };
  routes.write(route);
  await using sendq = await routes.run();
  await enqueue(routes, undefined, "1", "2");
  await until("the first", () => texts[0] === "old 1\n");

  routes.write({ ...route, maxPacketsPerSecond: "fast" });
  sendq.child.kill("SIGHUP");
  await sendq.says(/has mistakes: nothing was changed/);
  await sendq.says(/route\.json:1:\d+: maxPacketsPerSecond must be/);
  assert.deepEqual(texts, ["old 1\n"]);

  routes.write({
    ...route,
    maxPacketsPerSecond: 1000,
    maxAttempts: 7,
    queueOptions: { maxPackets: 5, maxBytes: "2GiB" },
  });
  sendq.child.kill("SIGHUP");
  await sendq.says(/needs a restart, and is as it was: maxAttempts, queueOptions\.maxPackets\n/);
  await sendq.says(/read anew: changed maxPacketsPerSecond, queueOptions\.maxBytes\n/);
  await until("the second, at the new pace", () => texts[0] === "old 1\n2\n");

  Deno.writeTextFileSync(secret, "new ");
  sendq.child.kill("SIGHUP");
  await sendq.says(/read anew: no option has changed/);
  // What is not confirmed by then would be sent again, behind the new password.
  await until("its confirmation", async () => await packetsIn(route.queue) === 0);
  for (const connection of server.connections) connection.close();
  await sendq.says(/the peer closed the connection; everything was confirmed/);
  await enqueue(routes, undefined, "3");
  await until("the third, behind the new password", () => texts.at(-1) === "new 3\n");
  sendq.child.kill("SIGTERM");
  assert.equal(await sendq.ended(), 0, sendq.stderr);
});

Deno.test("SIGHUP calls no mistake what only has to wait for a restart, and changes the other routes", async () => {
  await using server = new ReadingServer();
  using routes = new Routes("");
  const { directory } = routes;
  const [old, moved] = [directory.file("old.pem"), directory.file("moved.pem")];
  Deno.copyFileSync(new URL("../tls/certificates/authority.pem", import.meta.url), old);
  const [a, b, c] = ["a", "b", "c"].map((name) => ({
    queue: directory.file(`${name}.db`),
    remote: server.remote,
  }));
  const confirm = { level: "answer", framing: "lines", accepted: "OK" };
  const remote = server.remote.replace("tcp:", "tls:");
  routes.write({ routes: { a: { ...a, confirm }, b: { ...b, remote, tls: { ca: old } }, c } });
  await using sendq = await routes.run();
  await until("the third route", () => existsSync(`${directory.file("c.db")}.lock`));

  // Both are in order, and what stays until a restart is not, beside what would change before.
  Deno.renameSync(old, moved);
  routes.write({
    routes: {
      a: { ...a, holdMs: 7 },
      b: { ...b, remote, tls: { ca: moved }, holdMs: 7 },
      c: { ...c, holdMs: 7 },
    },
  });
  const checked = await runHere(["run", "--check", routes.path]);
  assert.doesNotMatch(checked.out, /holdMs|cannot be read/);
  sendq.child.kill("SIGHUP");
  await sendq.says(/c: read anew: changed routes\.c\.holdMs/);
  const { stderr } = sendq;
  assert.doesNotMatch(stderr, /mistakes/);
  const all = "all of it needs a restart, and is as it was:";
  assert.match(
    stderr,
    new RegExp(
      `a: ${all} routes\\.a\\.confirm\\.[^ ]+, .*routes\\.a\\.holdMs\\. ` +
        "Beside what stays until then: holdMs means nothing where answers confirm",
    ),
  );
  assert.match(
    stderr,
    new RegExp(
      `b: ${all} .*routes\\.b\\.holdMs\\. .*: the file ${old} cannot be read: there is none`,
    ),
  );
  assert.doesNotMatch(stderr, /[ab]: read anew/);
  sendq.child.kill("SIGTERM");
  await sendq.ended();
});

Deno.test("SIGHUP changes no route where a file that one names may not be read, and names the flag", async () => {
  await using server = new ReadingServer();
  using routes = new Routes("");
  const { directory } = routes;
  const secret = directory.file("password.txt");
  Deno.writeTextFileSync(secret, "AUTH ");
  const [a, b] = ["a", "b"].map((name) => ({
    queue: directory.file(`${name}.db`),
    remote: server.remote,
  }));
  routes.write({ routes: { a, b } });
  await using sendq = await routes.run();
  await until("the second route", () => existsSync(`${directory.file("b.db")}.lock`));
  const session = { open: [{ send: { file: secret } }] };
  routes.write({ routes: { a: { ...a, holdMs: 7 }, b: { ...b, session } } });
  sendq.child.kill("SIGHUP");
  await sendq.says(
    new RegExp(`needs more permissions, nothing was changed;.*--allow-read=${secret}`),
  );
  assert.doesNotMatch(sendq.stderr, /read anew: changed|\/dev/);
  routes.write({ routes: { a: { ...a, holdMs: 7 }, b } });
  sendq.child.kill("SIGHUP");
  await sendq.says(/a: read anew: changed routes\.a\.holdMs/);
  sendq.child.kill("SIGTERM");
  assert.equal(await sendq.ended(), 0, sendq.stderr);
});

Deno.test("SIGHUP while a queue is waited for ends nothing, and is done afterwards", async () => {
  await using server = new ReadingServer();
  using routes = new Routes("");
  const locked = routes.directory.file("locked.db");
  routes.write({
    routes: {
      a: { queue: routes.directory.queue, remote: server.remote },
      b: { queue: locked, remote: server.remote },
    },
  });
  await enqueue(routes, "b", "1");
  let sendq: Sendq;
  {
    using other = new DatabaseSync(locked);
    other.exec("PRAGMA locking_mode = exclusive; BEGIN; UPDATE state SET rowid = rowid; COMMIT");
    sendq = await routes.run();
    await until("the first route", () => existsSync(`${routes.directory.queue}.lock`));
    sendq.child.kill("SIGHUP");
  }
  await using _ = sendq;
  await sendq.says(/a: read anew: no option has changed/);
  await sendq.says(/b: read anew: no option has changed/);
  await until("the second route is open", () => server.text === "1\n");
  sendq.child.kill("SIGTERM");
  assert.equal(await sendq.ended(), 0, sendq.stderr);
});

/** The locks that a process has on a file, in which SQLite says that it uses the log. */
function locksOn(path: string, pid: number): number {
  const { ino } = Deno.statSync(path);
  // Deno itself reads below /proc with all permissions only.
  const { stdout } = new Deno.Command("cat", { args: ["/proc/locks"] }).outputSync();
  return new TextDecoder().decode(stdout).split("\n")
    .filter((line) => line.includes(` ${pid} `) && line.includes(`:${ino} `)).length;
}

for (const place of ["file", "spool"] as const) {
  Deno.test(`SIGHUP leaves SQLite the locks that keep its log from being removed, ${place}`, async () => {
    await using server = new ReadingServer();
    using routes = new Routes("");
    const path = routes.directory.queue;
    routes.write({
      queue: place === "file" ? path : `spool:${path}#tested`,
      remote: server.remote,
    });
    await using sendq = await routes.run();
    await enqueue(routes, undefined, "1");
    await until("the first packet", () => server.text === "1\n");
    const before = locksOn(path, sendq.child.pid);
    assert.ok(before > 0);
    sendq.child.kill("SIGHUP");
    await sendq.says(/read anew/);
    assert.equal(locksOn(path, sendq.child.pid), before);
    sendq.child.kill("SIGTERM");
    assert.equal(await sendq.ended(), 0, sendq.stderr);
  });
}

Deno.test("the command line wins over the file, for run and for --config", async () => {
  await using server = new ReadingServer();
  await using other = new ReadingServer();
  using routes = new Routes("");
  const { queue } = routes.directory;
  routes.write({
    queue,
    remote: "tcp://127.0.0.1:1",
    queueOptions: { maxPackets: 1 },
    holdMs: "1h",
    input: "lines",
    log: { format: "json" },
  });
  const flags = [
    ...(await routes.flags()).filter((flag) => !flag.startsWith("--allow-net")),
    `--allow-net=${new URL(server.remote).host}`,
  ];
  const sent = await runWith(
    ["--no-prompt", ...flags],
    ["send", server.remote, "--config", routes.path, "--hold", "0s", "--max-packets", "9"],
    "one\ntwo\n",
  );
  assert.equal(sent.code, 0, sent.err);
  assert.equal(server.text, "one\ntwo\n");
  assert.match(sent.err, /^\{"time":/);
  routes.write({ queue, remote: other.remote, holdMs: "1h" });
  await enqueue(routes, undefined, "three");
  const refused = await runHere(["enqueue", "--config", routes.path, "--route", "x", "four"]);
  assert.equal(refused.code, 2);
  assert.match(refused.err, /one route without a name/);
  await using sendq = await routes.run("--hold", "0s");
  await until("the packet", () => other.text === "three\n");
  sendq.child.kill("SIGTERM");
  assert.equal(await sendq.ended(), 0, sendq.stderr);
  assert.equal(await packetsIn(queue), 0);
});

Deno.test("commands that only look take the queue of a route", async () => {
  using routes = new Routes("");
  const { directory } = routes;
  routes.write({
    routes: {
      a: {
        queue: directory.file("a.db"),
        remote: "tcp://127.0.0.1:4000",
        output: "gelf",
        input: "lines",
      },
      b: { queue: directory.file("b.db"), remote: "tcp://127.0.0.1:4001" },
    },
  });
  await enqueue(routes, "a", "one");
  const list = await runHere(["list", "--json", "--config", routes.path, "--route=a"]);
  assert.equal(list.code, 0, list.err);
  assert.match(list.out, /"id":1/);
  const show = await runHere(["show", "1", `--config=${routes.path}`, "--route", "a", "--raw"]);
  assert.equal(show.out, "one\0", show.err);
  const which = await runHere(["list", "--config", routes.path]);
  assert.equal(which.code, 2);
  assert.match(which.err, /add --route a or b/);
});
