/**
 * The bookkeeping of answers against a model that keeps everything.
 */
import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { Answers } from "../../src/delivery/answers.ts";
import { type AnswerConfirmation, answerPlanOf } from "../../src/session/answers.ts";
import { bytes } from "../support/bytes.ts";

const KEYED: AnswerConfirmation = {
  framing: "lines",
  accepted: /^OK (?<key>\d+)$/,
  refused: /^NO (?<key>\d+)$/,
  keyOf: ([first = 0]) => String(first),
  maxUnanswered: 1000,
  answerTimeoutMs: 1000,
};
const IN_ORDER: AnswerConfirmation = {
  framing: "lines",
  accepted: "OK",
  refused: "NO",
  maxUnanswered: 1000,
  answerTimeoutMs: 1000,
};
const PACKET_BYTES = 4;

function answersFor(confirm: AnswerConfirmation): Answers {
  return new Answers(answerPlanOf(confirm), "192.0.2.7:4000");
}

/** A packet whose first byte is its key. */
function send(answers: Answers, id: number, startBytes: number): void {
  const packet = new Uint8Array(PACKET_BYTES).fill(id);
  answers.assigned(
    [{ firstId: id, bytes: packet, ends: Uint32Array.of(PACKET_BYTES), expiresAtMs: Infinity }],
    startBytes,
  );
}

type Step =
  | { readonly do: "send" }
  | { readonly do: "ack"; readonly bytes: number }
  | { readonly do: "say"; readonly accepts: boolean; readonly key: number }
  | { readonly do: "bury" };

const STEP = fc.oneof(
  { weight: 4, arbitrary: fc.constant<Step>({ do: "send" }) },
  {
    weight: 4,
    arbitrary: fc.integer({ min: 1, max: 9 }).map((bytes): Step => ({ do: "ack", bytes })),
  },
  {
    weight: 6,
    arbitrary: fc.record({ accepts: fc.boolean(), key: fc.integer({ min: 1, max: 14 }) })
      .map((said): Step => ({ do: "say", ...said })),
  },
  { weight: 1, arbitrary: fc.constant<Step>({ do: "bury" }) },
);

for (const [name, keyed] of [["with keys", true], ["in order", false]] as const) {
  Deno.test(`${name}: what is answered is what the server has answered, from the first on`, () => {
    fc.assert(fc.property(fc.array(STEP, { maxLength: 60 }), (steps) => {
      const answers = answersFor(keyed ? KEYED : IN_ORDER);
      const state = new Map<number, "open" | "accepted" | "refused" | "buried">();
      let sent = 0, acked = 0;
      let failed = false;
      for (const step of steps) {
        if (step.do === "send") {
          send(answers, ++sent, (sent - 1) * PACKET_BYTES);
          state.set(sent, "open");
        } else if (step.do === "ack") {
          acked = Math.min(acked + step.bytes, sent * PACKET_BYTES);
        } else if (step.do === "bury") {
          for (const { id } of answers.toBury) {
            answers.buried(id);
            assert.equal(state.get(id), "refused");
            state.set(id, "buried");
          }
        } else {
          const words = step.accepts ? "OK" : "NO";
          answers.heard(bytes(keyed ? `${words} ${step.key}\n` : `${words}\n`), acked);
          const open = [...state].filter(([, state]) => state === "open").map(([id]) => id);
          const id = keyed ? open.find((id) => id === step.key) : open[0];
          const has = id !== undefined && id * PACKET_BYTES <= acked;
          // With keys one that nobody has is no answer.
          if (!has && (!keyed || id !== undefined)) failed = true;
          if (has && !failed) state.set(id, step.accepts ? "accepted" : "refused");
        }
        answers.settle(acked, 0);
        assert.equal(answers.fault !== undefined, failed);
        let through = 0;
        while (["accepted", "buried"].includes(state.get(through + 1) ?? "")) through++;
        assert.equal(answers.confirmedThroughId, through);
        assert.equal(answers.openPackets, sent - through);
        assert.equal(answers.heldPackets, Math.max(0, Math.floor(acked / PACKET_BYTES) - through));
      }
    }));
  });
}

Deno.test("through a packet that was accepted out of turn means those before it, and no others", () => {
  const answers = answersFor({
    framing: "lines",
    maxUnanswered: 4,
    keyOf: ([first = 0]) => String(first),
    judge: ([word, key = 0]) =>
      word === 1
        ? { verdict: "accepted", key: String(key) }
        : { verdict: "accepted", through: String(key) },
  });
  for (let id = 1; id <= 4; id++) send(answers, id, (id - 1) * PACKET_BYTES);
  answers.heard(Uint8Array.of(1, 3, 10), 4 * PACKET_BYTES);
  answers.settle(4 * PACKET_BYTES, 0);
  assert.equal(answers.confirmedThroughId, 0);
  answers.heard(Uint8Array.of(2, 3, 10), 4 * PACKET_BYTES);
  answers.settle(4 * PACKET_BYTES, 0);
  assert.equal(answers.confirmedThroughId, 3);
  assert.equal(answers.takeUnknown(), undefined);
});

Deno.test("what the server says goes to the reader of received as well, who may change it", () => {
  const answers = answersFor(IN_ORDER);
  send(answers, 1, 0);
  const chunk = bytes("OK\n");
  answers.heard(chunk, PACKET_BYTES);
  chunk.fill(0);
  answers.settle(PACKET_BYTES, 0);
  assert.equal(answers.confirmedThroughId, 1);
});

Deno.test("an answer waits for the ledger, which hears of a write later than of its answer", () => {
  const answers = answersFor(IN_ORDER);
  send(answers, 1, 0);
  answers.heard(bytes("OK\n"), PACKET_BYTES);
  answers.settle(0, 0);
  assert.deepEqual([answers.confirmedThroughId, answers.fault], [0, undefined]);
  answers.settle(PACKET_BYTES, 0);
  assert.deepEqual([answers.confirmedThroughId, answers.fault], [1, undefined]);
});

Deno.test("an answer that came before a packet was acknowledged is not about it, however late it is looked at", () => {
  const answers = answersFor(IN_ORDER);
  send(answers, 1, 0);
  answers.heard(bytes("OK\n"), PACKET_BYTES - 1);
  answers.settle(PACKET_BYTES, 0);
  assert.equal(answers.confirmedThroughId, 0);
  assert.match(answers.fault ?? "", /while no packet waited for an answer$/);
});

Deno.test("the time-out runs from the acknowledgement, and anew from each answer", () => {
  const answers = answersFor(IN_ORDER);
  send(answers, 1, 0);
  send(answers, 2, PACKET_BYTES);
  answers.settle(0, 100);
  assert.equal(answers.debt.overdueInMs(5000), Infinity);
  answers.settle(2 * PACKET_BYTES, 5000);
  assert.equal(answers.debt.overdueInMs(5400), 600);
  answers.heard(bytes("OK\n"), 2 * PACKET_BYTES);
  answers.settle(2 * PACKET_BYTES, 5900);
  assert.equal(answers.debt.overdueInMs(6000), 900);
  // What is no answer does not help.
  answers.heard(bytes("HELLO\n"), 2 * PACKET_BYTES);
  answers.settle(2 * PACKET_BYTES, 6500);
  assert.equal(answers.debt.overdueInMs(6900), 0);
  assert.equal(answers.debt.unansweredMs(6900), 1000);
  answers.heard(bytes("OK\n"), 2 * PACKET_BYTES);
  answers.settle(2 * PACKET_BYTES, 6900);
  assert.equal(answers.debt.overdueInMs(9000), Infinity);
});

Deno.test("what a framing carries is judged, also where that is nothing", async (t) => {
  const streams = [
    ["lines", "\n\nOK\n"],
    ["mllp", "\x0b\x1c\r\x0bOK\x1c\r"],
    ["delimiter:0d0a", "\r\nOK\r\n"],
    ["frame:02/03,escape=10", "\x02\x03\x02O\x10K\x03"],
    ["length16", "\0\0\0\x02OK"],
    ["octet-counting", "2 OK"],
    ["syslog", "2 OK"],
    ["smpp", "\0\0\0\x04\0\0\0\x06OK"],
  ] as const;
  for (const [framing, text] of streams) {
    await t.step(framing, () => {
      const answers = answersFor({ framing, accepted: /^OK$/ });
      send(answers, 1, 0);
      // Byte by byte, as a server's may come.
      for (const byte of bytes(text)) answers.heard(Uint8Array.of(byte), PACKET_BYTES);
      answers.settle(PACKET_BYTES, 0);
      assert.deepEqual([answers.confirmedThroughId, answers.fault], [1, undefined]);
    });
  }
});

Deno.test("what was begun while a heartbeat waited for its answer is no packet's", async (t) => {
  const cases = [
    // The framing, what is said to the heartbeat and up to where, what is said to the packet.
    ["lines", "OK ping\n", "OK ping\n", "OK\n"],
    ["lines", "OK ping\n", "OK p", "OK\n"],
    ["lines", "HELLO\nOK ping\r\n", "HELLO\nOK ping", "OK\n"],
    ["mllp", "\x0bOK ping\x1c\r", "\x0bOK", "\x0bOK\x1c\r"],
    ["length16", "\0\x07OK ping", "\0\x07OK ping", "\0\x02OK"],
  ] as const;
  for (const [framing, pong, through, answer] of cases) {
    for (const inParts of [false, true]) {
      await t.step(`${framing}, ${JSON.stringify(through)}${inParts ? ", in parts" : ""}`, () => {
        const answers = answersFor({ framing, accepted: /^OK/ });
        const said = bytes(pong);
        const toHeartbeat = bytes(through).length;
        if (!inParts) answers.heard(said, 0, toHeartbeat);
        else {
          for (const [i, byte] of said.entries()) {
            answers.heard(Uint8Array.of(byte), 0, i < toHeartbeat ? 1 : 0);
          }
        }
        answers.settle(0, 0);
        assert.equal(answers.fault, undefined);
        send(answers, 1, 0);
        answers.heard(bytes(answer), PACKET_BYTES);
        answers.settle(PACKET_BYTES, 0);
        assert.deepEqual([answers.confirmedThroughId, answers.fault], [1, undefined]);
      });
    }
  }
});

Deno.test("behind the goodbye nothing is an answer", () => {
  const answers = answersFor(IN_ORDER);
  answers.finish();
  answers.heard(bytes("OK bye\n"), 0);
  answers.settle(0, 0);
  assert.equal(answers.fault, undefined);
});

Deno.test("thousands that wait, and answers in one piece, take no longer for each", () => {
  const answers = answersFor(IN_ORDER);
  const packets = 200_000;
  const ends = Uint32Array.from({ length: packets }, (_, i) => i + 1);
  const batch = { firstId: 1, bytes: new Uint8Array(packets), ends, expiresAtMs: Infinity };
  answers.assigned([batch], 0);
  answers.heard(bytes("OK\n".repeat(packets)), packets);
  answers.settle(packets, 0);
  assert.equal(answers.confirmedThroughId, packets);
});
