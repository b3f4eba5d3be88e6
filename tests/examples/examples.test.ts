/**
 * Runs what stands in `examples/`, with the permissions that each names. The
 * demo has its own task.
 */
import assert from "node:assert/strict";
import { LineChild, spawnHere } from "../../lab/child.ts";
import { connectionsOf } from "../../lab/connections_of.ts";
import { LIBC, relayPermissions, sendPermissions } from "../cli/helpers.ts";
import { ReadingServer, ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";

const root = new URL("../..", import.meta.url).pathname;

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

async function finished(child: Deno.ChildProcess): Promise<Ran> {
  const { code, stdout, stderr } = await child.output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { code, out: out ?? "", err: err ?? "" };
}

function run(command: string, args: string[], env: Record<string, string> = {}): Deno.ChildProcess {
  return new Deno.Command(command, { args, env, stdout: "piped", stderr: "piped" }).spawn();
}

function runExample(name: string, permissions: string[], ...args: string[]): Deno.ChildProcess {
  return run(Deno.execPath(), [
    "run",
    "--quiet",
    ...permissions,
    `${root}examples/${name}`,
    ...args,
  ]);
}

async function succeeds(command: string, ...args: string[]): Promise<string> {
  try {
    const { success, stderr } = await new Deno.Command(command, {
      args,
      cwd: root,
      env: { NO_COLOR: "1" },
    }).output();
    return success ? "" : new TextDecoder().decode(stderr).trim().split("\n").slice(0, 2).join(" ");
  } catch {
    return `there is no ${command}`;
  }
}

Deno.test("examples/durable_sender.ts delivers what it measures, and stops in order", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  const permissions = sendPermissions(server.remote, dir.queue);
  const child = runExample("durable_sender.ts", permissions, server.remote, dir.queue);
  await until("two values", () => server.text.split("\n").length > 2);
  child.kill("SIGTERM");
  const { code, out, err } = await finished(child);
  assert.equal(code, 0, err);
  assert.match(out, /\n0 packets are kept for the next start\n$/);
  assert.match(server.text, /^\d{4}-\S+ memory \d+\n\d{4}-\S+ memory \d+\n/);
});

Deno.test("examples/logging.ts: LogTape writes what a sender logs", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  const permissions = sendPermissions(server.remote, dir.queue);
  const { code, out, err } = await finished(
    runExample("logging.ts", permissions, server.remote, dir.queue, "one", "two"),
  );
  assert.equal(code, 0, err);
  assert.equal(server.text, "one\ntwo\n");
  const lines = (out + err).trim().split("\n").map((line) => JSON.parse(line));
  assert(lines.some(({ logger, message }) => logger === "sendq" && message.includes("connected")));
});

Deno.test("examples/occasional_responses.ts leaves a server that hangs, and gets its answer", async () => {
  using dir = new TempDir();
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const remote = `tcp://127.0.0.1:${listener.addr.port}`;
  const connections: Deno.TcpConn[] = [];
  const serving = (async () => {
    for await (const connection of connectionsOf(listener)) {
      const number = connections.push(connection);
      (async () => {
        const buffer = new Uint8Array(4096);
        for (;;) {
          const length = await connection.read(buffer);
          if (length === null) return connection.close();
          // The first one hangs: its kernel takes everything, it says nothing.
          const requests = new TextDecoder().decode(buffer.subarray(0, length)).match(/\d+/g) ?? [];
          const answers = requests.map((request) => `ok ${request}\n`).join("");
          if (number > 1) await connection.write(new TextEncoder().encode(answers));
        }
      })().catch(() => connection.close());
    }
  })();
  const permissions = sendPermissions(remote, dir.queue);
  const { code, out, err } = await finished(
    runExample("occasional_responses.ts", permissions, remote, dir.queue, "3"),
  );
  listener.close();
  await serving;
  assert.equal(code, 0, err);
  assert.match(out, /no response: not a byte from the server for \d\.\d s/);
  assert.match(out, /request 3 is answered\n$/);
  assert(connections.length >= 2);
});

Deno.test("examples/relay_for_a_program.sh: an unchanged program, its lines delivered", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  const socket = `${dir.path}/out.sock`;
  const program = `const c = await Deno.connect({ transport: "unix", path: "${socket}" });
    await c.write(new TextEncoder().encode("one\\ntwo\\n"));
    await c.closeWrite();
    await c.read(new Uint8Array(1)); // Until the relay has stored all.
    c.close();`;
  const deno = Deno.execPath();
  const { code, err } = await finished(
    run(`${root}examples/relay_for_a_program.sh`, [
      ...[server.remote, dir.queue, socket],
      ...[deno, "eval", program],
    ], { LIBC, DENO: deno }),
  );
  assert.equal(code, 0, err);
  assert.equal(server.text, "one\ntwo\n");
});

Deno.test("examples/relay_for_a_program.sh says what it wants where that is missing", async () => {
  const asked = run(`${root}examples/relay_for_a_program.sh`, ["tcp://127.0.0.1:1", "q.db"]);
  const { code, err } = await finished(asked);
  assert.equal(code, 2);
  assert.match(err, /^usage: \S+ REMOTE QUEUE SOCKET PROGRAM \[ARGUMENT\.\.\.\]\n$/);
});

Deno.test("examples/relay_for_a_program.sh: a program that ends at once, and a socket from before", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  const socket = `${dir.path}/out.sock`;
  const deno = Deno.execPath();
  // As a relay leaves it that was killed.
  const left = `Deno.listen({ transport: "unix", path: "${socket}" }); Deno.exit();`;
  await finished(run(deno, ["eval", left]));
  assert(Deno.lstatSync(socket).isSocket);
  const { code, err } = await finished(
    run(
      `${root}examples/relay_for_a_program.sh`,
      [server.remote, dir.queue, socket, "sh", "-c", `test -S ${socket}`],
      { LIBC, DENO: deno },
    ),
  );
  assert.equal(code, 0, err);
  assert.match(err, /done: 0 packets delivered\n$/);
  assert.throws(() => Deno.lstatSync(socket), Deno.errors.NotFound);
});

/**
 * What a unit grants, without what is of use and not needed: that threads sync the log of
 * each queue where the disk is slow.
 */
function neededOf(words: readonly string[]): string[] {
  return words.filter((word) => word.startsWith("--allow-")).map((flag) => {
    const [name, values = ""] = flag.split("=");
    const all = values.split(",");
    const logs = all.filter((value) => value.endsWith(".db-wal"));
    const queues = all.filter((value) => value.endsWith(".db"));
    if (name === "--allow-read") assert.deepEqual(logs, queues.map((queue) => `${queue}-wal`));
    return `${name}=${all.filter((value) => !logs.includes(value)).join()}`;
  });
}

/** The unit's command line, for this machine. */
function execStart(unit: string, changes: readonly [string, string][]): string[] {
  const line = /^ExecStart=((?:.*\\\n)*.*)$/m.exec(unit)?.[1] ?? "";
  const words = line.replaceAll("\\\n", " ").trim().split(/\s+/);
  return words.map((word) =>
    changes.reduce((changed, [from, to]) => changed.replaceAll(from, to), word)
  );
}

Deno.test("examples/systemd: its command says READY, feeds the watchdog, and stops", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  const unit = Deno.readTextFileSync(`${root}examples/systemd/sendq-relay.service`);
  const listen = `127.0.0.1:${ScriptedServer.freePort()}`;
  const [command = "", ...args] = execStart(unit, [
    ["/usr/local/bin/deno", Deno.execPath()],
    ["/opt/sendq/", root],
    ["/var/lib/private/sendq/", `${dir.path}/`],
    ["127.0.0.1:4001", listen],
    ["legacy:4000", server.remote.replace("tcp://", "")],
    ["/lib/x86_64-linux-gnu/libc.so.6", LIBC],
  ]);
  // What the help of `relay` names, and the two variables.
  const granted = neededOf(args);
  const expected = relayPermissions(`tcp://${listen}`, server.remote, `${dir.path}/outbox.db`);
  const sorted = (flags: string[]) =>
    flags.map((flag) => flag.split("=").map((part) => part.split(",").sort().join()).join("="));
  assert.deepEqual(sorted(granted), [
    ...sorted(expected),
    "--allow-env=NOTIFY_SOCKET,WATCHDOG_USEC",
  ]);

  const path = `${dir.path}/notify`;
  await using manager = new LineChild(spawnHere, Deno.execPath(), [
    ...["run", "--quiet", "--unstable-net", "--allow-net", "--allow-read", "--allow-write"],
    ...[`${root}tests/support/datagram_listener.ts`, path],
  ]);
  assert.equal(JSON.parse(await manager.hear()), "listening");
  const child = run(command, args, { NOTIFY_SOCKET: path, WATCHDOG_USEC: "200000" });
  const hear = async (fits: RegExp) => {
    for (;;) if (fits.test(JSON.parse(await manager.hear()))) return;
  };
  await hear(new RegExp(`^READY=1\nMAINPID=${child.pid}$`));
  const [hostname = "", port = ""] = listen.split(":");
  const client = await Deno.connect({ hostname, port: Number(port) });
  await client.write(new TextEncoder().encode("one\n"));
  for (let i = 0; i < 3; i++) await hear(/^WATCHDOG=1$/);
  await until("the packet", () => server.text === "one\n");
  client.close();
  child.kill("SIGTERM");
  await hear(/^STOPPING=1$/);
  const { code, err } = await finished(child);
  assert.equal(code, 0, err);
});

Deno.test("examples/systemd: the routes run with exactly what their unit grants", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  const listen = `127.0.0.1:${ScriptedServer.freePort()}`;
  const changes: [from: string, to: string][] = [
    ["/usr/local/bin/deno", Deno.execPath()],
    ["/opt/sendq/", root],
    ["/var/lib/private/sendq/", `${dir.path}/`],
    ["/etc/sendq/", `${dir.path}/`],
    ["127.0.0.1:4001", listen],
    ["127.0.0.1:9465", `127.0.0.1:${ScriptedServer.freePort()}`],
    ["legacy:4000", server.remote.replace("tcp://", "")],
    ["logs:601", `127.0.0.1:${ScriptedServer.freePort()}`],
    ["/lib/x86_64-linux-gnu/libc.so.6", LIBC],
  ];
  const read = (name: string) => Deno.readTextFileSync(`${root}examples/systemd/${name}`);
  const routes = changes.reduce(
    (text, [from, to]) => text.replaceAll(from, to),
    read("route.json"),
  );
  Deno.writeTextFileSync(`${dir.path}/route.json`, routes);
  const [command = "", ...args] = execStart(read("sendq.service"), changes);
  const checked = await finished(run(command, [
    ...["run", "--quiet", `--allow-read=${dir.path}/route.json`, `${root}src/cli/main.ts`],
    ...["run", "--check", `${dir.path}/route.json`],
  ]));
  const [, needed = ""] = /^deno run needs: (.*)$/m.exec(checked.out) ?? [];
  const values = (flags: readonly string[]) =>
    flags.map((flag) => flag.split("=").map((part) => part.split(",").sort().join()).join("="))
      .filter((flag) => !/^--allow-(ffi|env)=/.test(flag)).sort();
  const granted = neededOf(args);
  assert.deepEqual(values(granted), values(needed.split(" ")), checked.err);

  const child = run(command, args);
  const [hostname = "", port = ""] = listen.split(":");
  let client: Deno.TcpConn | undefined;
  await until("the relay", async () => {
    client = await Deno.connect({ hostname, port: Number(port) }).catch(() => undefined);
    return client !== undefined;
  });
  await client?.write(new TextEncoder().encode("one\n"));
  await until("the packet", () => server.text === "one\n");
  client?.close();
  child.kill("SIGHUP");
  child.kill("SIGTERM");
  const { code, err } = await finished(child);
  assert.equal(code, 0, err);
  assert.match(err, /read anew: no option has changed/);
});

const noAnalyze = await succeeds("systemd-analyze", "--version");
for (const name of ["sendq-relay.service", "sendq.service"]) {
  Deno.test({
    name: `examples/systemd: systemd finds no fault in ${name}` +
      (noAnalyze === "" ? "" : ` (left out: ${noAnalyze})`),
    ignore: noAnalyze !== "",
    async fn() {
      using dir = new TempDir();
      const unit = Deno.readTextFileSync(`${root}examples/systemd/${name}`);
      const path = `${dir.path}/${name}`;
      // It wants the program to exist.
      Deno.writeTextFileSync(path, unit.replaceAll("/usr/local/bin/deno", Deno.execPath()));
      const { out, err } = await finished(run("systemd-analyze", ["verify", "--man=no", path]));
      const about = (out + err).split("\n").filter((line) => line.includes(name));
      assert.deepEqual(about, []);
    },
  });
}

const jsr = [
  "--quiet",
  "--config",
  "examples/jsr_stack/deno.json",
  "examples/jsr_stack/durable_sender.ts",
];
const noJsr = await succeeds(Deno.execPath(), "cache", ...jsr);
Deno.test({
  name: "examples/jsr_stack: its types fit, and it delivers through @db/sqlite" +
    (noJsr === "" ? "" : ` (left out: JSR cannot be reached: ${noJsr})`),
  ignore: noJsr !== "",
  async fn() {
    // The real libraries' types, which no other check of ours sees.
    assert.equal(await succeeds(Deno.execPath(), "check", ...jsr), "");
    using dir = new TempDir();
    await using server = new ReadingServer();
    const { code, err } = await finished(
      run(Deno.execPath(), [
        ...["run", "-A", "--config", `${root}examples/jsr_stack/deno.json`],
        `${root}examples/jsr_stack/durable_sender.ts`,
        ...["--queue", dir.queue, "--remote", server.remote, "one"],
      ]),
    );
    assert.equal(code, 0, err);
    assert.equal(server.text, "one\n");
  },
});
