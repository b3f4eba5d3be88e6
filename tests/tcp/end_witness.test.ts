import assert from "node:assert/strict";
import { TcpState } from "../../src/base/ports.ts";
import { type Counters, EndWitness } from "../../src/tcp/counters.ts";

function counters(given: Partial<Counters>): Counters {
  return {
    state: TcpState.ESTABLISHED,
    sendQueueBytes: 0,
    notSentBytes: 0,
    bytesAcked: 1,
    unackedSegments: 0,
    sendMssBytes: 1448,
    sendWindowBytes: 65_536,
    windowLimitedUs: 0,
    rttUs: 1000,
    lastAckMs: 0,
    probes: 0,
    retransmits: 0,
    totalRetransmits: 0,
    hangup: false,
    bytesReceived: 0,
    errorPending: false,
    ...given,
  };
}

const { CLOSE, CLOSE_WAIT, FIN_WAIT2, LAST_ACK } = TcpState;

/** What was seen while the connection was open, its end, and whether that was in order. */
const ENDS: readonly [string, Partial<Counters>[], Partial<Counters>, boolean][] = [
  ["both FINs seen", [{ state: LAST_ACK }], {}, true],
  ["both FINs between two readings", [{}], { bytesAcked: 2, bytesReceived: 1 }, true],
  ["ours seen, theirs counted", [{ state: FIN_WAIT2, bytesAcked: 2 }], {
    bytesAcked: 2,
    bytesReceived: 1,
  }, true],
  ["theirs seen, ours counted", [{ state: CLOSE_WAIT, bytesReceived: 1 }], {
    bytesAcked: 2,
    bytesReceived: 1,
  }, true],
  ["a reset whose error the owner was told", [{}], {}, false],
  ["a reset after data came", [{}], { bytesReceived: 100 }, false],
  ["a reset after data was acknowledged", [{}], { bytesAcked: 100 }, false],
  ["a reset after the peer's FIN", [{ state: CLOSE_WAIT, bytesReceived: 1 }], {
    bytesReceived: 1,
  }, false],
  ["an error waits", [{ state: LAST_ACK }], { errorPending: true }, false],
  ["something was never acknowledged", [{ state: LAST_ACK }], { sendQueueBytes: 1 }, false],
  ["never seen open", [], { bytesAcked: 9, bytesReceived: 9 }, false],
];

for (const [name, open, end, inOrder] of ENDS) {
  Deno.test(`an end is ${inOrder ? "" : "not "}in order: ${name}`, () => {
    const witness = new EndWitness();
    for (const reading of open) witness.note(counters(reading));
    assert.equal(witness.endedInOrder(counters({ ...end, state: CLOSE })), inOrder);
  });
}
