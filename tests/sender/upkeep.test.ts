import assert from "node:assert/strict";
import { RateMeter } from "../../src/sender/rate_meter.ts";
import { keepUp } from "../../src/sender/upkeep.ts";
import { ManualClock } from "../support/manual_clock.ts";

/** A sender that counts how often it was asked for its report. */
function bench() {
  const clock = new ManualClock();
  const meter = new RateMeter();
  const state = { changes: 0, packets: 0, reports: 0, hasRoom: true };
  const counters = () => ({
    storedPackets: state.packets,
    drainedPackets: state.packets,
    ackedBytes: 10 * state.packets,
  });
  const refresh = () => {
    state.reports++;
    return state.hasRoom;
  };
  const end = keepUp(clock, meter, { refresh }, { counters, changes: () => state.changes });
  const rate = () => meter.rates(clock.nowMs(), counters()).storedPacketsPerSecond;
  return { clock, state, end, rate };
}

Deno.test("a sender in which nothing changes is left alone, until something does", () => {
  const { clock, state, end } = bench();
  clock.advance(60_000);
  assert.equal(state.reports, 4);
  state.changes++;
  clock.advance(1000);
  assert.equal(state.reports, 5);
  clock.advance(10_000);
  assert.equal(state.reports, 5, "a look at the connection has no rates behind it");
  state.changes++;
  state.packets++;
  clock.advance(10_000);
  assert.equal(state.reports, 10);
  // What is not known may have changed.
  state.changes = NaN;
  clock.advance(20_000);
  assert.equal(state.reports, 30);
  end();
  assert.equal(clock.timers.size, 0);
});

Deno.test("a report that the disk has no room for is written once it has", () => {
  const { clock, state, end } = bench();
  state.hasRoom = false;
  clock.advance(60_000);
  assert.equal(state.reports, 60);
  state.hasRoom = true;
  clock.advance(60_000);
  assert.equal(state.reports, 61);
  end();
});

Deno.test("the rates of what comes after a pause are those of the last seconds", () => {
  const { clock, state, rate } = bench();
  clock.advance(60_000);
  assert.equal(rate(), 0);
  state.packets += 30;
  state.changes++;
  assert.equal(rate(), 10);
  clock.advance(1000);
  assert.ok(Math.abs(rate() - 10) < 1e-9, String(rate()));
  clock.advance(3000);
  assert.equal(rate(), 0);
});
