/** What an example of a protocol makes of a server that does what the field ring's do not. */
import assert from "node:assert/strict";
import { QueueInspector } from "../../src/queue/inspect/mod.ts";
import { runHere } from "../cli/helpers.ts";
import { ScriptedServer, type ServedConnection } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";

const SMTP = new URL("../../examples/protocols/smtp_greeting.json", import.meta.url).pathname;

const mail = (to: string) => `MAIL FROM:<a@b>\r\nRCPT TO:<${to}>\r\nDATA\r\nfor ${to}\r\n.\r\n`;

/**
 * Takes mails, but none to nobody: each further line of one is a command that it does not know,
 * which it says when the next command is there.
 */
async function serveMails(connection: ServedConnection, taken: string[]): Promise<void> {
  await connection.write("220 here\r\n");
  let [text, owed] = ["", ""];
  let recipient: string | undefined;
  for (let part = await connection.read(); part !== ""; part = await connection.read()) {
    text += part;
    for (let end = text.indexOf("\r\n"); end >= 0; end = text.indexOf("\r\n")) {
      const line = text.slice(0, end);
      text = text.slice(end + 2);
      if (line.startsWith("MAIL")) {
        await connection.write(`${owed}250 sender\r\n`);
        owed = "";
      } else if (line.startsWith("RCPT")) {
        recipient = /<(?!nobody)(.*)>/.exec(line)?.[1];
        await connection.write(recipient === undefined ? "550 no such user\r\n" : "250 to\r\n");
      } else if (line.startsWith("EHLO")) await connection.write("250 hello\r\n");
      else if (line === "QUIT") await connection.write("221 bye\r\n");
      else if (recipient === undefined) owed += "500 unknown\r\n";
      else if (line === ".") {
        taken.push(recipient);
        await connection.write(`250 queued as ${taken.length}\r\n`);
      }
    }
  }
  connection.close();
}

Deno.test("SMTP: the many answers to a refused mail are about no other, and it is a dead letter", async () => {
  using dir = new TempDir();
  await using server = new ScriptedServer().start();
  const taken: string[] = [];
  const serving = server.serve((connection) => serveMails(connection, taken).catch(() => {}));
  const { code, err } = await runHere(
    [
      ...["send", "--config", SMTP, server.remote, "--queue", dir.queue],
      ...["--answer-timeout", "300ms", "--max-attempts", "2"],
    ],
    ["one", "nobody", "three", "four", "five"].map(mail).join(""),
  );
  assert.deepEqual(taken, ["one", "three", "four", "five"], err);
  assert.equal(code, 1);
  using inspector = await QueueInspector.open(dir.queue);
  assert.equal((await inspector.counts()).packets, 0);
  const dead = await Array.fromAsync(inspector.deadLetters());
  assert.deepEqual(dead.map(({ id, reason }) => [id, reason]), [[2, "gave-up"]]);
  await server[Symbol.asyncDispose]();
  await serving;
});
