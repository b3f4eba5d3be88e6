/**
 * Faults planted into copies of the lease, and of what stands between a sender and its
 * connection.
 *
 * @module
 */

import type { Planted } from "./planted.ts";

const LEASE = "src/postgres/lease.ts";
const DIALER = "src/sender/tenured_dialer.ts";
const WORLD = "simulation/lease_run.ts";
const FENCE = "if (tenure !== state.fence.tenure || known < count) {";
const worker = "lease_worker.ts";

/** All of them. */
export const LEASE_PLANTED: readonly Planted[] = [
  {
    name: "lease: not looked at before a write",
    file: DIALER,
    worker,
    patches: [[
      "if (!this.#mayGoOn()) return Promise.reject(lapsed());",
      "",
    ]],
  },
  {
    name: "lease: counted from the answer",
    file: LEASE,
    worker,
    patches: [[
      "this.#validUntilMs = Math.max(this.#validUntilMs, askedAtMs + this.#goodForMs);",
      "void askedAtMs;\n    this.#validUntilMs = clock.nowMs() + this.#goodForMs;",
    ]],
  },
  {
    name: "lease: taken from the answer on",
    file: LEASE,
    worker,
    patches: [[
      "return new Lease({ ...taken, tenure }, takenAtMs, options);",
      "{\n            void takenAtMs;\n            return new Lease({ ...taken, tenure }, clock.nowMs(), options);\n          }",
    ]],
  },
  {
    name: "lease: the beat is as old as the question",
    file: LEASE,
    worker,
    patches: [[
      "seen = { row, sinceMs: clock.nowMs() };",
      "seen = { row, sinceMs: askedAtMs };",
    ]],
  },
  {
    name: "lease: no more patience than the holder has",
    file: LEASE,
    worker,
    patches: [
      ["const PATIENCE = 1.02;", "const PATIENCE = 0.7;"],
    ],
  },
  {
    name: "lease: only one's own patience counts",
    file: LEASE,
    worker,
    patches: [["Math.max(ttlMs, row.ttlMs) * PATIENCE", "ttlMs * PATIENCE"]],
  },
  {
    name: "lease: an old sight of the beat counts on",
    file: LEASE,
    worker,
    patches: [[
      "if (seen === undefined || !isSame(seen.row, row)) {",
      "if (seen === undefined) {",
    ]],
  },
  {
    name: "lease: nobody is told that it has lapsed",
    file: LEASE,
    worker,
    patches: [[
      "for (const onLapsed of [...this.#onLapsed]) onLapsed();",
      "",
    ]],
  },
  {
    name: "lease: a lost one beats on",
    file: LEASE,
    worker,
    patches: [[
      'if (typeof answer !== "number") {',
      'if (typeof answer !== "number") return false;\n    if (typeof answer !== "number") {',
    ]],
  },
  {
    name: "lease: lapsed is lost",
    file: LEASE,
    worker,
    patches: [["if (isRenewed) this.#hasLapsed = false;", ""]],
  },
  // The database and its calls are the world's own: here it is the world that is held to account.
  {
    name: "lease: a read without a number",
    file: WORLD,
    worker,
    patches: [["      reads.count++;\n", ""]],
  },
  {
    name: "lease: nothing is reserved",
    file: WORLD,
    worker,
    patches: [[
      "state.reservedThrough = Math.max(state.reservedThrough, afterId + packets.length);",
      "",
    ]],
  },
  {
    name: "lease: an end that says nothing was sent",
    file: WORLD,
    worker,
    patches: [["() => this.#sentThrough,\n", "() => 0,\n"]],
  },
  {
    name: "lease: unfenced removal",
    file: WORLD,
    worker,
    patches: [[FENCE, 'if (tenure === "") {']],
  },
  {
    name: "lease: a fence of epochs alone",
    file: WORLD,
    worker,
    patches: [[FENCE, "if (epoch !== state.fence.epoch) {"]],
  },
  {
    name: "lease: a fence that knows no reads",
    file: WORLD,
    worker,
    patches: [[FENCE, "if (tenure !== state.fence.tenure) {"]],
  },
  {
    name: "lease: 'had it' from a plain read",
    file: WORLD,
    worker,
    patches: [[
      "return this.change(process, (state) => {\n      if (had(state)) return;",
      "const seen = await this.read(process, had);\n    if (seen) return;\n    return await this.change(process, (state) => {\n      if (had(state)) return;",
    ], [
      "enqueue(process: Process, producer: string, call: number, packet: number): Promise<void> {",
      "async enqueue(process: Process, producer: string, call: number, packet: number): Promise<void> {",
    ]],
  },
];
