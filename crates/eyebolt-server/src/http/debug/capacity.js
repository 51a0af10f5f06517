// Shows GET /admin/v1/capacity once a second. Text is set as text alone: nothing of an answer becomes markup.
const TOKEN = "eyebolt.admin_token";
const EVERY = 1000;
const $ = (id) => document.getElementById(id);

let timer;
let asked = 0;

function state(text, bad = false) {
    $("state").textContent = text;
    $("state").classList.toggle("bad", bad);
}

function ask(why) {
    clearTimeout(timer);
    sessionStorage.removeItem(TOKEN);
    $("ask").hidden = false;
    $("report").hidden = true;
    $("forget").hidden = true;
    state(why, why !== "Not connected");
    $("token").focus();
}

async function look() {
    clearTimeout(timer);
    const token = sessionStorage.getItem(TOKEN);
    if (!token) return ask("Not connected");
    const turn = ++asked;
    try {
        const answer = await fetch("/admin/v1/capacity", {
            headers: { Authorization: `Bearer ${token}`, Accept: "application/json" },
            cache: "no-store",
            signal: AbortSignal.timeout(10_000),
        });
        if (turn !== asked) return;
        const told = await answer.json();
        if (answer.status === 401 || answer.status === 403 || answer.status === 404) return ask(told.detail ?? told.title);
        if (!answer.ok) throw new Error(told.detail ?? `status ${answer.status}`);
        show(told);
        state(`As of ${new Date().toLocaleTimeString()}`);
    } catch (error) {
        // What was shown last stays, and is told to be old.
        if (turn === asked) state(`No answer: ${error.message}`, true);
    }
    if (turn === asked) timer = setTimeout(look, document.hidden ? 10 * EVERY : EVERY);
}

const seconds = (value) => value.toFixed(value < 10 ? 2 : 1);
const count = (value) => value.toLocaleString();

function show(report) {
    $("ask").hidden = true;
    $("report").hidden = false;
    $("forget").hidden = false;
    const [first] = report.classes;
    const figures = {
        running: report.running,
        workers: report.workers,
        waiting: count(report.classes.reduce((sum, one) => sum + one.waiting, 0)),
        work: seconds(first.work_seconds),
        bound: seconds(first.bound_seconds),
        refused: count(report.refused),
        held: count(report.held_back),
        hung: report.hung,
    };
    for (const [id, text] of Object.entries(figures)) $(id).textContent = text;
    $("hung-box").classList.toggle("bad", report.hung > 0);
    rows("classes", report.classes, (one) => [
        one.class, one.waiting, seconds(one.work_seconds), seconds(one.bound_seconds), seconds(one.promised_bound_seconds),
        count(one.decisions.admitted), count(one.decisions.refused), count(one.decisions.evicted),
        count(one.decisions.answered_later),
    ]);
    rows("projects", report.projects, (one) => [one.class, count(one.waiting), one.project], [0, 2]);
    rows("costs", report.costs, (one) => [
        one.feature ?? "beside", one.model ?? "–", one.base_ms.toFixed(1), one.ms_per_megapixel.toFixed(1),
        one.correction.toFixed(2),
    ], [0, 1]);
    draw(report.history);
}

function rows(id, list, cells, texts = [0]) {
    const made = list.map((one) => {
        const row = document.createElement("tr");
        cells(one).forEach((text, column) => {
            const cell = row.insertCell();
            cell.textContent = text;
            if (texts.includes(column)) cell.className = "text";
        });
        return row;
    });
    if (made.length === 0) {
        const row = document.createElement("tr");
        const cell = row.insertCell();
        cell.className = "none";
        cell.colSpan = 9;
        cell.textContent = "nobody";
        if (id === "costs") cell.textContent = "nothing learned yet";
        made.push(row);
    }
    $(id).replaceChildren(...made);
}

function draw(history) {
    const top = Math.max(1, ...history.map((one) => Math.max(one.work_seconds, one.bound_seconds))) * 1.1;
    const x = (index) => (480 - (history.length - 1 - index) * 4).toFixed(1);
    const y = (value) => (118 - (value / top) * 116).toFixed(1);
    const line = (read) => history.map((one, index) => `${index ? "L" : "M"}${x(index)} ${y(read(one))}`).join("");
    const work = line((one) => one.work_seconds);
    $("area").setAttribute("d", work && `${work}L480 118L${x(0)} 118Z`);
    $("limit").setAttribute("d", line((one) => one.bound_seconds));
    $("top").textContent = `height ${seconds(top)} s`;
}

$("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(TOKEN, $("token").value.trim());
    $("token").value = "";
    look();
});
$("forget").addEventListener("click", () => { asked += 1; ask("Not connected"); });
document.addEventListener("visibilitychange", () => { if (!document.hidden && sessionStorage.getItem(TOKEN)) look(); });
look();
