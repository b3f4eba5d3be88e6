/**
 * What the Worker of a queue with `commitIn: "worker"` runs.
 *
 * @module
 */

import { workerData } from "node:worker_threads";
import { nodeSqlite } from "../sqlite/node_sqlite.ts";
import { serveStore } from "./server.ts";

serveStore(workerData, nodeSqlite);
