/** What the sender of a session is opened with, and what of it can be checked before. */

import { resolveQueueOptions } from "../../queue/options.ts";
import { limitsOf, type SenderOptions } from "../../sender/options.ts";
import {
  checkPageAddress,
  type DeliveryCommandOptions,
  deliveryOptionsOf,
  queueOptionsOf,
} from "../arguments/options.ts";
import type { SessionPlan } from "./plan.ts";

/** What the sender is opened with. Reads the files of a session and of a proxy. */
export function senderOptionsOf({ options, remote }: SessionPlan): SenderOptions {
  return {
    ...deliveryOptionsOf(options),
    queue: options.queue,
    queueOptions: queueOptionsOf(options),
    remote,
  };
}

/** The same without what lies in files that cannot be read yet. */
export function senderOptionsWithoutFiles(plan: SessionPlan): SenderOptions {
  return senderOptionsOf({ ...plan, options: withoutFiles(plan.options) });
}

/**
 * Looks for options that are out of range or contradict each other, before anybody is asked
 * for permissions that only they need.
 *
 * @throws {OptionError | UsageError} There is one.
 */
export function checkPlan(plan: SessionPlan): void {
  resolveQueueOptions(queueOptionsOf(plan.options));
  limitsOf(senderOptionsWithoutFiles(plan));
  checkPageAddress(plan.options);
}

function withoutFiles(options: DeliveryCommandOptions): DeliveryCommandOptions {
  const names = Object.keys(options).filter((name) =>
    /^session|^heartbeat|^goodbye$|^via\.credentials$/.test(name)
  );
  return { ...options, ...Object.fromEntries(names.map((name) => [name, undefined])) };
}
