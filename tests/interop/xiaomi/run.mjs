// Other people's clients of Xiaomi push against the sandbox: push-xiaomi (v3 path) and xiaomi-push (v2 path).
//
// The clients are used as an application uses them, but for the address of Xiaomi. Each case says what the client must
// make of an answer: if the sandbox answered in another shape than Xiaomi, the client would see something else.
//
// Environment: SANDBOX_URL, and FIXTURES: a directory for what was on the wire, or empty.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';

// Modules are looked for in the directory that it runs in.
const require = createRequire(`${process.cwd()}/`);
const sandbox = process.env.SANDBOX_URL;
const fixtures = process.env.FIXTURES ?? '';
const PACKAGE = 'com.example.interop';
const SECRET = 'AbCdSecret';

const Push = require('push-xiaomi');
// The tracer reads its addresses when it is loaded.
const constant = require('xiaomi-push/lib/constant');
constant.notificationAPI.regid = `${sandbox}/v2/message/regid`;
constant.tracerMessageAPI = `${sandbox}/v1/trace/message/status`;
constant.tracerMessagesAPI = `${sandbox}/v1/trace/messages/status`;
const mi = require('xiaomi-push');

async function control(method, path, body) {
    const headers = { 'content-type': 'application/json' };
    const answer = await fetch(`${sandbox}/_sandbox${path}`, { method, headers, body: body && JSON.stringify(body) });
    const text = await answer.text();
    assert.ok(answer.ok, `${method} ${path}: ${text}`);
    return text ? JSON.parse(text) : null;
}

function pushXiaomi(secret = SECRET) {
    return new Push({
        pushUrl: `${sandbox}/v3/message/regid`,
        queryUrl: `${sandbox}/v1/trace/message/status`,
        appSecret: secret,
        appPkgName: PACKAGE,
        timeout: 10000,
    });
}

/** What push-xiaomi says of a whole push, with the answers that it got. */
function pushed(client, list, more = {}) {
    const answers = [];
    return new Promise((resolve, reject) => {
        client.push({
            title: '订单', content: '已发货 100% & more', payload: '{"anypush_id":"msg_interop","order":"42"}', list, sleep: 0,
            success: (answer) => answers.push(answer.data), fail: reject,
            finish: (result) => resolve({ ...result, answers }), ...more,
        });
    });
}

function message() {
    return new mi.Message()
        .title('Order shipped').description('Your parcel leaves today').payload('{"anypush_id":"msg_interop"}')
        .passThrough(0).notifyType(-1).notifyId(42).timeToLive(3600000).restrictedPackageName(PACKAGE)
        .extra('channel_id', '118443').extra('notify_effect', '2').extra('intent_uri', 'intent:#Intent;S.a=1;end')
        .extra('order', '42').extra('jobkey', 'ord-42');
}

const options = { production: true, appSecret: SECRET };

/** A server that hears receipts; resolves with the first. */
async function hearing() {
    let heard;
    const receipt = new Promise((resolve) => { heard = resolve; });
    const server = http.createServer(async (request, response) => {
        let body = '';
        for await (const part of request) body += part;
        response.end('{}');
        heard({ headers: request.headers, body });
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    return { url: `http://127.0.0.1:${server.address().port}/r`, receipt, server };
}

// --- cases: each is named by its function ---

async function single() {
    const result = await pushed(pushXiaomi(), ['interop-1+/=']);
    assert.deepEqual([result.success_total, result.fail_total], [1, 0]);
    assert.ok(result.traceIdList[0].startsWith('sdm'));
    assert.equal(result.answers[0].data.bad_regids, undefined);
}

async function some_bad_regids() {
    const result = await pushed(pushXiaomi(), ['interop-1', 'dead-1', 'interop-2', 'malformed-1']);
    assert.deepEqual([result.success_total, result.fail_total], [2, 2]);
    assert.equal(result.answers[0].data.bad_regids, 'dead-1,malformed-1');
}

async function no_valid_targets() {
    const result = await pushed(pushXiaomi(), ['dead-1', 'dead-2']);
    assert.deepEqual([result.success_total, result.fail_total, result.traceIdList], [0, 2, []]);
    assert.equal(result.answers[0].code, 20301);
}

async function wrong_secret() {
    const result = await pushed(pushXiaomi('another'), ['interop-1']);
    assert.deepEqual([result.success_total, result.answers[0].code], [0, 21301]);
}

async function daily_quota() {
    const result = await pushed(pushXiaomi(), ['quota-1']);
    assert.equal(result.answers[0].code, 200001);
    assert.match(result.answers[0].reason, /^exceed quota, quota: \d+, have acked: \d+$/);
}

async function query() {
    const { traceIdList } = await pushed(pushXiaomi(), ['interop-1'], { 'extra.notify_effect': '1' });
    const numbers = await pushXiaomi().query({ msg_id: traceIdList });
    assert.deepEqual([numbers.delivered, numbers.click], [1, 0]);
}

async function callback() {
    const { url, receipt, server } = await hearing();
    try {
        const more = { 'extra.notify_effect': '1', 'extra.callback': url, 'extra.callback.type': '1267' };
        const { traceIdList } = await pushed(pushXiaomi(), ['interop-1', 'interop-2', 'fails-16-1'], more);
        const { headers, body } = await receipt;
        assert.match(headers['content-type'], /^application\/x-www-form-urlencoded/);
        const told = JSON.parse(new URLSearchParams(body).get('data'))[traceIdList[0]];
        assert.deepEqual([told.type, told.targets], [1, 'interop-1,interop-2']);
        // The sandbox books a receipt when it was answered, and another tells of the one that failed.
        for (let told = 0; told < 2;) {
            await setTimeout(50);
            const { requests } = await control('GET', '/recording');
            told = requests.filter((request) => request.operation === 'callback').length;
        }
    } finally {
        server.close();
    }
}

async function v2_full_message() {
    const answer = await new mi.Notification(options).send(['interop-1', 'interop+2/='], message());
    assert.deepEqual([answer.result, answer.code], ['ok', 0]);
    assert.ok(answer.data.id && answer.data.day_quota && answer.data.day_acked);
}

async function v2_refusal() {
    await assert.rejects(new mi.Notification(options).send('dead-1', message()), /"code":20301/);
}

async function v2_invalid_channel() {
    const wrong = message().extra('channel_id', 'nobody');
    await assert.rejects(new mi.Notification(options).send('interop-1', wrong), /"code":27001/);
}

async function v2_trace() {
    const began = Date.now() - 60000;
    const { data } = await new mi.Notification(options).send('interop-1', message());
    const tracer = new mi.Tracer(options);
    assert.equal((await tracer.getMessageStatus(data.id)).data.data.id, data.id);
    assert.equal((await tracer.getMessageGroupStatus('ord-42')).data.data.resolved, 1);
    const listed = (await tracer.getMessagesStatus(began, Date.now() + 60000)).data.data;
    assert.ok(listed.some((one) => one.id === data.id));
    await assert.rejects(tracer.getMessageStatus('nobody'), /"code":65028/);
}

const cases = [
    single, some_bad_regids, no_valid_targets, wrong_secret, daily_quota, query, callback, v2_full_message, v2_refusal,
    v2_invalid_channel, v2_trace,
];

// --- fixtures ---

/** Ids, times and addresses differ from run to run: each gets one that stays. In forms a `%22` may stand before them. */
function steady(text) {
    return text
        .replace(/([sX][dc]m)\d{13}[0-9a-f]{8}/g, '$11767225600123a1b2c3d4')
        .replace(/(?<!\d)1[78]\d{11}(?!\d)/g, '1767225600123')
        .replace(/\b20\d\d-\d\d-\d\dT[\d:.]+Z/g, '2026-01-01T00:00:00.123Z')
        .replace(/("day_acked":)"\d+"/g, '$1"12"')
        .replace(/127\.0\.0\.1(:|%3A)\d+/g, '127.0.0.1$14499');
}

function fixture(request) {
    const { method, path, query: asked, headers, body, status, answer } = request;
    if (request.operation === 'callback') {
        return { operation: 'callback', headers, body: steady(body) };
    }
    const kept = { method, path, headers, status };
    if (asked) kept.query = steady(asked);
    if (body) kept.body = steady(body);
    kept.answer = JSON.parse(steady(answer));
    return kept;
}

/** Keys in their order, so that a file changes only when the wire does. */
function sorted(value) {
    if (Array.isArray(value)) return value.map(sorted);
    if (value === null || typeof value !== 'object') return value;
    return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
}

function write(name, requests) {
    const client = name.startsWith('v2_') ? 'xiaomi-push 1.0.0' : 'push-xiaomi 0.1.6';
    const text = JSON.stringify(sorted({ client, case: name, requests: requests.map(fixture) }), null, 2);
    writeFileSync(join(fixtures, `${name}.json`), `${text}\n`);
}

async function run(test) {
    await control('PUT', '/rules', []);
    await control('PUT', '/recording', { on: true });
    try {
        await test();
    } finally {
        const { requests } = await control('GET', '/recording');
        await control('PUT', '/recording', { on: false });
        if (fixtures) write(test.name, requests);
    }
}

await control('PUT', '/providers/xiaomi', {});
// These clients send no channel: they were written before it was required.
await control('PUT', `/xiaomi/${PACKAGE}/app`, { app_secret: SECRET, channel_required: false });
let failed = 0;
for (const test of cases) {
    try {
        await run(test);
    } catch (error) {
        failed += 1;
        console.error(`FAILED ${test.name}`, error);
    }
}
console.log(`${cases.length - failed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
