import assert from "node:assert/strict";
import { OptionError } from "../../src/base/errors.ts";
import { planOf, type Session } from "../../src/session/session.ts";

const refused = (session: unknown): OptionError => {
  try {
    planOf(session as Session);
  } catch (error) {
    assert.ok(error instanceof OptionError, String(error));
    return error;
  }
  throw new Error("it was taken");
};

Deno.test("a session has its defaults", () => {
  const plan = planOf({ heartbeat: { send: "PING\r\n" } });
  assert.deepEqual(
    { ...plan, heartbeat: { ...plan.heartbeat, send: undefined } },
    {
      open: undefined,
      close: new Uint8Array(),
      separate: false,
      timeoutMs: 10_000,
      refusedBackoffFirstMs: 5000,
      refusedBackoffCapMs: 60_000,
      heartbeat: { send: undefined, expect: undefined, idleMs: 30_000, answerTimeoutMs: 10_000 },
    },
  );
});

for (
  const [session, option, rule] of [
    [{ opne: [] }, "session.opne", /none of open, heartbeat/],
    [{ open: "AUTH" }, "session.open", /list of steps, or a function/],
    [{ open: [{ send: "A", framing: "lines" }] }, "session.open[0].framing", /needs an expect/],
    [
      { open: [{ expect: "A", framing: "chunks" }] },
      "session.open[0].framing",
      /must be one that marks where an answer ends/,
    ],
    [{ open: [{}] }, "session.open[0]", /something to send or to expect/],
    [{ open: [{ send: "a" }, { send: "" }] }, "session.open[1].send", /at least one/],
    [
      { open: [{ send: "a", expekt: "b" }] },
      "session.open[0].expekt",
      /is no option \(is expect meant\?\)/,
    ],
    [{ open: [{ send: "a", refuse: /-/ }] }, "session.open[0].refuse", /needs an expect/],
    [{ open: [{ expect: "a", timeoutMs: 0 }] }, "session.open[0].timeoutMs", /1 or more/],
    [{ open: [{ expect: 7 }] }, "session.open[0].expect", /text or bytes/],
    [{ heartbeat: {} }, "session.heartbeat.send", /text or bytes/],
    [{ heartbeat: { send: "a", idleMs: 1 } }, "session.heartbeat.idleMs", /from 10/],
    [{ close: new Uint8Array() }, "session.close", /at least one/],
    [{ separate: "yes" }, "session.separate", /true or false/],
    [{ timeoutMs: 1 }, "session.timeoutMs", /from 100/],
    [null, "session", /an object/],
  ] as const
) {
  Deno.test(`a session that is wrong is refused: ${JSON.stringify(session)}`, () => {
    const error = refused(session);
    assert.equal(error.option, option);
    assert.match(error.rule, rule);
  });
}

Deno.test("a heartbeat's answer in text is found among others, as itself", () => {
  const expect = planOf({ heartbeat: { send: "x", expect: "+PONG.\r\n" } }).heartbeat?.expect;
  assert.ok(expect?.test("+OK\r\n+PONG.\r\n"));
  assert.ok(!expect?.test("+PONG!\r\n"));
});
