/**
 * A session by the flags of `send` and `relay`.
 */
import assert from "node:assert/strict";
import { unescape } from "../../src/cli/arguments/session.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { runHere, runWith, sendPermissions, Sendq } from "./helpers.ts";

const NOBODY = "tcp://127.0.0.1:1";

Deno.test("steps in the order of the flags, a secret from a file, and a goodbye", async () => {
  using dir = new TempDir();
  await using server = new ScriptedServer().start();
  const file = dir.file("login.txt");
  await Deno.writeTextFile(file, "AUTH secret\r\n");
  const permissions = sendPermissions(server.remote, dir.queue);
  const args = [
    ...["send", server.remote, "-q", dir.queue, "--hold", "0s"],
    ...["--session-expect", "/hello [^;]*;/", "--session-refuse", "/busy;/"],
    ...["--session-send", `@${file}`, "--session-expect", "\\xffOK\\r\\n"],
    ...["--session-send", "BEGIN\\n", "--goodbye", "QUIT\\0"],
  ];
  // What the file needs is said before anything is done.
  const denied = await runWith(permissions, args);
  assert.equal(denied.code, 77);
  assert.match(denied.err, new RegExp(`--allow-read=${file}`));
  const command = runWith([...permissions, `--allow-read=${file}`], args, "one\ntwo\n");
  const connection = await server.accept();
  await connection.write("banner\nhello you;");
  assert.equal(await connection.readUntil("\r\n"), "AUTH secret\r\n");
  await connection.write(Uint8Array.of(0xff, 79, 75, 13, 10));
  let rest = "";
  await connection.readToEnd((text) => rest += text);
  assert.equal(rest, "BEGIN\none\ntwo\nQUIT\0");
  const { code, err } = await command;
  assert.equal(code, 0, err);
  assert.ok(!err.includes("secret"));
});

Deno.test("an answer of a framing is taken as a whole, and what follows it is not", async () => {
  using dir = new TempDir();
  await using server = new ScriptedServer().start();
  const command = runWith(sendPermissions(server.remote, dir.queue), [
    ...["send", server.remote, "-q", dir.queue, "--hold", "0s"],
    ...["--session-send", "BIND\\n", "--session-expect", "OK", "--session-framing", "length16"],
    ...["--session-expect", "go", "--session-framing", "lines"],
  ], "one\n");
  const connection = await server.accept();
  await connection.readUntil("\n");
  // Its end looks like the next answer.
  await connection.write("\0\x05OKgo\n");
  await connection.write("go\n");
  let rest = "";
  await connection.readToEnd((text) => rest += text);
  assert.equal(rest, "one\n");
  const { code, err } = await command;
  assert.equal(code, 0, err);
});

Deno.test("a wrong password is told in the server's words, and the packets are kept", async () => {
  using dir = new TempDir();
  await using server = new ScriptedServer().start();
  await using command = new Sendq(sendPermissions(server.remote, dir.queue), [
    ...["send", server.remote, "-q", dir.queue, "--deliver-timeout", "0s"],
    ...["--session-send", "AUTH x\\r\\n", "--session-expect", "+OK"],
  ]);
  await command.write("one\n");
  const connection = await server.accept();
  await connection.readUntil("\r\n");
  await connection.write("-ERR invalid password\r\n");
  await command.says(/invalid password/);
  assert.match(
    command.stderr,
    /the server said "-ERR invalid password\\r\\n"; expected was "\+OK"/,
  );
  command.child.kill("SIGTERM");
  assert.equal(await command.ended(), 75);
});

for (
  const [args, message] of [
    [["--session-send", ""], /at least one byte/],
    [["--session-send", "a\\q"], /There is no \\q/],
    [["--session-expect", "/(/"], /Invalid regular expression/],
    [["--session-expect", "/^250/m"], /Expected \/REGEXP\/, without flags/],
    [["--session-refuse", "-"], /--session-refuse belongs behind a --session-expect/],
    [["--session-framing", "lines"], /--session-framing belongs behind a --session-expect/],
    [["--session-expect", "x", "--session-framing", "line"], /--session-framing.*lines/s],
    [["--session-expect", "x", "--session-framing", "chunks"], /framing/],
    [["--heartbeat-idle", "5s"], /--heartbeat-idle needs --heartbeat/],
    [["--heartbeat-expect", "x"], /--heartbeat-expect needs --heartbeat/],
    [["--heartbeat", "x", "--heartbeat-idle", "1ms"], /--heartbeat-idle.* must be from 10ms/],
    [["--session-timeout", "1ms"], /--session-timeout.* must be from 100ms/],
    [["--session-send", "@/no/such/file"], /the file \/no\/such\/file .*cannot be read: No such/],
  ] as const
) {
  Deno.test(`a session that is wrong is said before anything is opened: ${args.join(" ")}`, async () => {
    using dir = new TempDir();
    const { code, err } = await runHere(["send", NOBODY, "-q", dir.queue, ...args]);
    assert.equal(code, 2, err);
    assert.match(err, message);
    await assert.rejects(Deno.stat(dir.queue), Deno.errors.NotFound);
  });
}

Deno.test("escapes are bytes, and text is its UTF-8", () => {
  assert.deepEqual([...unescape("a\\x00\\xfF\\r\\n\\t\\0\\\\ü")], [
    ...[97, 0, 255, 13, 10, 9, 0, 92, 0xc3, 0xbc],
  ]);
  assert.throws(() => unescape("\\x4"), /There is no/);
});
