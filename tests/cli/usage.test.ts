import assert from "node:assert/strict";
import denoJson from "../../deno.json" with { type: "json" };
import { ReadingServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { LIBC, runHere, runWith, sendPermissions, Sendq } from "./helpers.ts";

const REMOTE = "tcp://127.0.0.1:4000";

Deno.test("what is wrong on the command line is one line, a hint, and exit 2", async (t) => {
  const send = ["send", REMOTE, "--queue", "q.db"];
  const cases: [string[], RegExp][] = [
    [["sendd"], /^unknown command 'sendd' \(Did you mean send\?\)$/],
    [["help", "sendd"], /^unknown command 'sendd' \(Did you mean send\?\)$/],
    [["help", "nope"], /^unknown command 'nope'$/],
    [["--bogus"], /^unknown option '--bogus'/],
    [["send"], /^required option '-q, --queue <file>' not specified$/],
    [["send", "--hepl"], /^unknown option '--hepl' \(Did you mean --help\?\)$/],
    [["send", REMOTE, "--queu=q.db"], /^unknown option '--queu=q\.db'/],
    [["relay", "--lisen", "unix:s"], /^unknown option '--lisen' \(Did you mean --listen\?\)$/],
    [["enqueue", "--hepl"], /^unknown option '--hepl' \(Did you mean --help\?\)$/],
    [["repair", "--hepl"], /^unknown option '--hepl' \(Did you mean --help\?\)$/],
    [["send", "--queue", "q.db"], /^missing required argument 'remote'$/],
    [
      ["send", "legacy:4000", "-q", "q.db"],
      /"legacy:4000" has no scheme that sendq speaks; expected tcp:\/\/HOST:PORT/,
    ],
    [["send", "tcp://legacy", "-q", "q.db"], /"tcp:\/\/legacy" has no usable port/],
    [["send", "http://legacy:80", "-q", "q.db"], /has no scheme that sendq speaks; expected tcp:/],
    [[...send, "more"], /^too many arguments/],
    [[...send, "--holdd", "1s"], /^unknown option '--holdd' \(Did you mean --hold\?\)$/],
    [[...send, "--hold"], /^option '--hold <time>' argument missing$/],
    [[...send, "--hold", "3"], /'--hold <time>' argument '3' is invalid\. Expected a duration/],
    [[...send, "--max-in-flight", "lots"], /argument 'lots' is invalid\. Expected a size/],
    [[...send, "--max-packets", "-1"], /Expected a whole number|argument missing/],
    [[...send, "--input", "xml"], /argument 'xml' is invalid\. It must be one of lines,/],
    [[...send, "--input", "none", "--output", "lines"], /^--output needs an input/],
    [[...send, "--no-keepalive", "--keepalive-idle", "1s"], /^--no-keepalive cannot be combined/],
    [["list", "-q", "postgres://u:sec/ret@db/packets/out"], /postgres:\/\/u:…@db\/packets\/out/],
    [["list", "-q", "Postgres://u:secret@db/p/%ff"], /Postgres:\/\/u:…@db\/p\/%ff.*UTF-8/],
    ...["enqueue", "status", "list", "check", "export", "show", "remove", "requeue"].map((
      command,
    ): [string[], RegExp] => [
      [command, "-q", "postgres://u@db/p/a%01b"],
      /name must have 200 characters at most, all of them printable/,
    ]),
    [
      ["postgres", "setup", "postgres://u@db/p/a\u001b[31mb"],
      /a\\x1b\[31mb' is invalid .* name must have 200 characters at most, all of them printable/,
    ],
    [["list", "-q", "postgres://u@db/packets"], /the queue's name is missing/],
    [["backup", "-q", "postgres://u@db/p/out", "copy.db"], /a file\. .*pg_basebackup, or pg_dump/],
    [
      ["repair", "postgres://u@db/p/out", "new.db"],
      /a file\. .*fail over to a standby, or restore/,
    ],
    [[...send, "--verbose", "--quiet"], /^--verbose and --quiet cannot be combined$/],
  ];
  for (const [args, expected] of cases) {
    await t.step(args.join(" "), async () => {
      const { code, out, err } = await runHere(args);
      const [message = "", usage = "", ...rest] = err.split("\n");
      assert.equal(code, 2, err);
      assert.equal(out, "");
      assert.match(message, /^sendq: /);
      assert.match(message.slice("sendq: ".length), expected);
      assert.match(usage, /^Usage: sendq .*; see sendq .*help$/);
      assert.deepEqual(rest, [""]);
    });
  }
});

Deno.test("a password in an address that was mistyped is not printed", async (t) => {
  using directory = new TempDir();
  const routes = directory.file("routes.json");
  const remote = "postgres://u:hunter2@db/p/out";
  Deno.writeTextFileSync(routes, JSON.stringify({ queue: "pg://u:hunter2@db/p/out", remote }));
  const cases = [
    ["list", "-q", "postgres://u@db/p/out?password=hunter2"],
    ["enqueue", "-q", "postgre://u:hunter2@db/p/out", "one"],
    ["status", "-q", " postgres://u:hunter2@db/p/out"],
    ["send", REMOTE, "-q", "jdbc:postgresql://u:hunter2@db/p/out", "--input", "none", "--verbose"],
    ["spool", "postgres://u:hunter2@db/p/out"],
    ["import", "postgres://u:hunter2@db/p/out", "-q", directory.file("q.db")],
    ["postgres", "setup", "postgres//u:hunter2@db/p/out"],
    ["run", "postgres://u:hunter2@db/p/out"],
    ["run", "--check", routes],
  ];
  for (const args of cases) {
    await t.step(args.join(" "), async () => {
      const { code, out, err } = await runHere(args);
      assert.notEqual(code, 0);
      assert.doesNotMatch(out + err, /hunter2/);
      assert.match(out + err, /:…@|password=…/);
    });
  }
});

Deno.test("an empty path is wrong usage, whichever option or argument it is", async (t) => {
  const cases: [string[], string][] = [
    ...["enqueue", "status", "list", "export", "show", "import", "remove", "requeue", "check"].map(
      (command): [string[], string] => [[command, "-q", ""], "--queue"],
    ),
    [["send", REMOTE, "-q", ""], "--queue"],
    [["send", REMOTE, "-q", "q.db", "--libc="], "--libc"],
    [
      ["send", REMOTE, "-q", "q.db", "--http", "127.0.0.1:9465", "--http-token-file", ""],
      "--http-",
    ],
    [["send", REMOTE, "--config", ""], "--config"],
    [["enqueue", "-q", "q.db", "--file", "one", "--file", ""], "--file"],
    [["export", "-q", "q.db", "-o", ""], "--output"],
    [["import", "-q", "q.db", ""], "file"],
    [["backup", "-q", "q.db", ""], "to"],
    [["repair", "", "new.db"], "from"],
    [["repair", "q.db", ""], "to"],
    [["spool", ""], "file"],
    [["run", ""], "file"],
    [["run", "--check", ""], "file"],
  ];
  for (const [args, name] of cases) {
    await t.step(args.join(" "), async () => {
      const { code, out, err } = await runHere(args.includes("show") ? [...args, "1"] : args);
      assert.match(
        err,
        new RegExp(`^sendq: ${name}\\S* needs a path, and was given an empty text\n`),
      );
      assert.deepEqual([code, out], [2, ""]);
    });
  }
});

Deno.test("a file that is named and cannot be read is wrong usage, whatever names it", async (t) => {
  using dir = new TempDir();
  const file = dir.file("plain");
  Deno.writeTextFileSync(file, "plain");
  const send = ["send", REMOTE, "-q", dir.queue, "-i", "none"];
  const http = ["--http", "127.0.0.1:9465", "--http-token-file"];
  for (const path of [dir.path, `${file}/inside`, dir.file("none"), dir.file("x".repeat(300))]) {
    const cases = [
      [...send, "--session-send", `@${path}`],
      [...send, "--heartbeat", `@${path}`],
      [...send, "--via", "socks5://127.0.0.1:1", "--via-credentials-file", path],
      [...send, ...http, path],
      ["enqueue", "-q", dir.queue, "--file", path],
      ["import", "-q", dir.queue, path],
      ["list", "-q", `${path}/queue.db`],
      ["run", path],
      ["list", "--config", path],
    ];
    for (const args of cases) {
      await t.step(args.join(" "), async () => {
        const { code, out, err } = await runHere(args);
        assert.equal(code, 2, err);
        assert.equal(out, "");
        assert.doesNotMatch(err, /unexpected/);
        assert.match(err, /cannot be read: |is a directory|there is no (file|queue)/);
      });
    }
  }
  const route = dir.file("route.json");
  for (
    const named of [{ session: { open: [{ send: { file: dir.path } }] } }, {
      http: { address: "127.0.0.1:9465", tokenFile: dir.path },
    }]
  ) {
    Deno.writeTextFileSync(
      route,
      JSON.stringify({ queue: dir.queue, remote: REMOTE, ...named }),
    );
    const { code, out } = await runHere(["run", "--check", route]);
    assert.equal(code, 2, out);
    assert.match(out, /the file \S+ cannot be read: it is a directory/);
  }
});

Deno.test("values out of range are named by their flags, in the units that are typed", async (t) => {
  using dir = new TempDir();
  const cases: [string[], RegExp][] = [
    [
      ["--stall-timeout", "1ms"],
      /stall-timeout .*'1ms' is invalid\. It must be from 100ms to 24d\./,
    ],
    [["--connect-timeout", "30d"], /'--connect-timeout .*must be from 100ms to 24d\./],
    [["--status-interval", "30d"], /'--status-interval .*must be from 0ms to 24d\./],
    [["--peer-stall-timeout", "30d"], /'--peer-stall-timeout .*100ms to 24d, or never\./],
    [["--max-packets", "0"], /'--max-packets .*must be an integer of 1 or more\./],
    [["--max-packet-bytes", "1GiB"], /'--max-packet-bytes .*must be from 1 to 512MiB\./],
    [["--max-bytes-per-second", "0"], /'--max-bytes-per-second .*must be more than 0\./],
    [["--max-attempts", "1"], /must be an integer of 2 or more, because the first break/],
    [["--rto-max", "1ms"], /'--rto-max .*must be from 1s to 2m\./],
    [["--tos", "3"], /'--tos .*must be a multiple of 4 from 0 to 252, because/],
    [["--congestion", "no good"], /'--congestion .*must be a name/],
    [
      ["--hold", "1s", "--response-timeout", "2s"],
      /^sendq: --hold must be more than --response-timeout, got 1s\n/,
    ],
    [["--max-packet-bytes", "1"], /^sendq: --max-packet-bytes must be more than the 1 bytes/],
  ];
  for (const [args, expected] of cases) {
    await t.step(args.join(" "), async () => {
      const { code, err } = await runHere(["send", REMOTE, "-q", dir.queue, ...args]);
      assert.match(err, expected);
      assert.equal(code, 2);
      assert.equal(err.split("\n").length, 3);
    });
  }
});

Deno.test("options that contradict each other are told before permissions are asked for", async (t) => {
  const cases: [string[], RegExp][] = [
    [
      ["send", REMOTE, "--confirm", "reader"],
      /^sendq: --confirm is for a remote that begins with tls:\/\/ or unix:.*, got reader\n/,
    ],
    [
      ["relay", "--listen", "tcp://127.0.0.1:4001", "--to", REMOTE, "--confirm", "reader"],
      /^sendq: --confirm is for a remote that begins with tls:\/\/ or unix:.*, got reader\n/,
    ],
    ...[
      ["tcp://127.0.0.1:4001", "tcp://127.0.0.1:4001"],
      ["tcp://127.0.0.1:4001", "tcp://127.0.0.1:4000,tcp://127.0.0.1:4001"],
      ["tcp://0.0.0.0:4001", "tcp://127.0.0.1:4001"],
      ["tcp://[::]:4001", "tcp://localhost:4001"],
      ["tcp://localhost:4001", "tcp://[::1]:4001"],
      ["unix:/run/app.sock", "unix:/run/app.sock"],
      ["unix:/run/app.sock", "unix:/run/./old/../app.sock"],
    ].map(([listen = "", to = ""]): [string[], RegExp] => [
      ["relay", "--listen", listen, "--to", to],
      /^sendq: \S+ is where the relay listens: it would send to itself\n/,
    ]),
    [
      ["send", "tls://127.0.0.1:4000", "--confirm", "reader", "--hold", "2s"],
      /^sendq: --hold means nothing where reading confirms: leave it out, got 2s\n/,
    ],
    [
      ["send", REMOTE, "--tls-ca", "ca.pem"],
      /^sendq: --tls-… is for a remote that begins with tls:\/\/\n/,
    ],
    [
      ["send", REMOTE, "--session-send", "@login.txt", "--hold", "1s", "--response-timeout", "2s"],
      /^sendq: --hold must be more than --response-timeout, got 1s\n/,
    ],
  ];
  for (const [args, expected] of cases) {
    await t.step(args.join(" "), async () => {
      const { code, err } = await runWith([], [...args, "-q", "q.db"]);
      assert.match(err, expected);
      assert.equal(code, 2);
    });
  }
});

Deno.test("help goes to stdout, needs no permission, and has an example", async () => {
  const general = await runWith([], []);
  assert.deepEqual([general.code, general.err], [0, ""]);
  assert.match(general.out, /^Usage: sendq \[options\] \[command\]\n/);
  assert.match(general.out, /\n {2}send \[options\] \[remote\] +deliver packets/);
  assert.match(general.out, /producer \| sendq send tcp:\/\//);
  assert.deepEqual(await runHere([]), general);
  assert.deepEqual(await runHere(["help"]), general);
  assert.deepEqual(await runHere(["--help"]), general);

  const send = await runHere(["send", "--help"]);
  assert.deepEqual([send.code, send.err], [0, ""]);
  assert.deepEqual(await runHere(["help", "send"]), send);
  const groups = [...send.out.matchAll(/^(\w+):$/gm)].map(([, name]) => name);
  assert.deepEqual(groups, [
    ...["Arguments", "Packets", "Queue", "Delivery", "Proxy", "Pace", "Confirmation"],
    ...["Socket", "Output", "Other", "Examples"],
  ]);
  assert.match(
    send.out,
    /\n {4}producer \| sendq send tcp:\/\/192\.0\.2\.7:4000 --queue outbox\.db\n/,
  );
  for (const code of [0, 1, 2, 75, 77]) assert.match(send.out, new RegExp(`\n  ${code} +\\w`));
});

Deno.test("no help is wider than a terminal of 80 columns, and each says its units", async () => {
  const { out } = await runHere(["help"]);
  const commands = [...out.matchAll(/^ {2}([a-z]+) [[<]/gm)].map(([, name = ""]) => name);
  assert(commands.length > 15);
  for (const args of [[], ...commands.map((name) => [name, "--help"])]) {
    const help = await runHere(args);
    assert.deepEqual(help.out.split("\n").filter((line) => line.length > 80), [], args[0]);
    assert.equal(help.out.includes("Times have a unit"), help.out.includes("<time>"), args[0]);
    assert.equal(help.out.includes("Sizes may have"), help.out.includes("<size>"), args[0]);
  }
});

Deno.test("--version prints the version", async () => {
  assert.deepEqual(await runHere(["--version"]), {
    code: 0,
    out: `${denoJson.version}\n`,
    err: "",
  });
});

Deno.test("missing permissions are named all at once; with them it runs", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  const args = ["send", server.remote, "--queue", dir.queue];
  const { code, out, err } = await runWith([], args);
  assert.equal(code, 77);
  assert.equal(out, "");
  assert.match(err, /^sendq: not permitted here; add to "deno run" what is missing: --allow-\S+/);
  assert.equal(err.split("\n").length, 2, "more than one line");
  const flags = err.trim().split(" ").filter((word) => word.startsWith("--allow-"))
    // Without the right to look, Debian's path is proposed.
    .map((flag) => flag.startsWith("--allow-ffi=") ? `--allow-ffi=${LIBC}` : flag);
  assert.deepEqual(flags, sendPermissions(server.remote, dir.queue));

  await using again = new Sendq(flags, args);
  assert.equal(await again.runWith("now it runs\n"), 0, again.stderr);
  assert.equal(server.text, "now it runs\n");
});

Deno.test("each permission that is missing is named alone", async (t) => {
  using dir = new TempDir();
  const all = sendPermissions(REMOTE, dir.queue);
  for (const missing of all) {
    await t.step(missing, async () => {
      const { code, err } = await runWith(
        all.filter((flag) => flag !== missing),
        ["send", REMOTE, "--queue", dir.queue],
      );
      assert.equal(code, 77);
      const named = err.trim().split(" ").filter((word) => word.startsWith("--allow-"));
      assert.deepEqual(named.map((flag) => flag.split("=")[0]), [missing.split("=")[0]]);
    });
  }
});
