// The page's words, in English and Chinese.

const LANGUAGE = "millstream.language";

const EN = {
  chat: "Chat", arena: "Arena", cluster: "Cluster", work: "Batches", keys: "Keys", usage: "Usage", skip: "Skip to the content",
  copy: "Copy", copied: "Copied", send: "Send", stop: "Stop", again: "Answer again", go_on: "Continue", edit: "Edit", save: "Save", cancel: "Cancel",
  remove: "Delete", export: "Export", ended_jobs: "Jobs that ended", nothing_ended: "None is kept.", state_ended: "all", state_finished: "finished", state_failed: "failed",
  state_cancelled: "cancelled", state_expired: "expired", state_dead: "dead (killed its workers)", fenced: "Fenced writes",
  fenced_gone: "Refused writes of workers that had lost their lease and are gone", since_opened: "Since this page is open", others: "others",
  preempted: "Preempted jobs, and where they went on", went_on: "Went on", gone_on: "{0}: {1} → {2}, after {3} chunks, {4} later",
  not_gone_on: "{0}: {1} → …, after {2} chunks",
  tokens_by_day: "Tokens by day", parted_by: "Parted by", as_table: "As a table", share: "Share",
  change: "Change", picture: "Picture {0}", picture_short: "Picture", add_picture: "Add a picture", picture_blind: "{0} does not see: it cannot be shown a picture.",
  picture_large: "{0} is too large: at most 30 MB and 50 million pixels are read.", picture_unread: "{0} is no picture that can be read.",
  pictures_many: "At most {0} pictures go with one message.", pictures_left_out: "{0} does not see: the pictures of this conversation are not shown to it.",
  exactness: "How exactly another worker goes on with an answer", older: "Older conversations", new_talk: "New conversation", rename: "Rename",
  talks_kept: "Kept on the server: found again with the same key on any device.", talks_none: "This gateway keeps no conversations. They lie in this browser alone.",
  talks_away: "The gateway does not answer. Until it does, conversations lie in this browser alone.", talks_refused: "The gateway does not keep all: {0}",
  talks: "Conversations", no_talks: "None yet.", settings: "Settings", model: "Model",
  system: "System prompt", temperature: "Temperature", max_tokens: "Most tokens", top_p: "Top p", seed: "Seed", effort: "Reasoning effort",
  ask: "Ask something …", you: "You", thinking: "Thinking", tool: "Tool call", first_token: "first token", per_second: "tokens/s", tokens: "tokens",
  sending: "sending …", waiting: "waiting for the first token …", queued: "place {0} in the queue", about: "about {0}", reconnecting: "connection lost, going on …",
  no_worker_now: "no worker serves this model now", stopped: "Stopped.", failed: "Failed", seam: "{0} workers wrote this", gap: "gap {0}",
  intact: "0 lost, 0 repeated: the same as in the log", repeated: "{0} repeated events left out", differs: "The text differs from the log!",
  previous: "Earlier version", next: "Later version", key_wanted: "This gateway asks for an API key.", key: "API key", remember: "Remember on this device",
  enter: "Enter", leave: "Log out", kept_for_tab: "Without this, the key is forgotten with the tab.", wrong_key: "The key was not accepted.",
  no_worker: "No worker yet", no_worker_why: "The gateway is up and the queue answers, but nobody computes. Start a worker on this or another machine:",
  no_worker_try: "For a try without a model:", no_worker_wait: "This page goes on by itself as soon as one is there.",
  away: "The gateway does not answer. Trying again …", redis: "Redis", redis_ok: "Redis answers", redis_away: "Redis does not answer", workers: "Workers", worker: "Worker",
  models: "Models", queue: "Queue", jobs: "Jobs", state: "State", slots: "Slots", speed: "Speed", engine: "Engine", kv: "KV cache", hits: "Prefix hits", host: "Host",
  lease: "Lease", tenant: "Tenant", tier: "Tier", age: "Age", deadline: "Deadline in", why: "Waits for", place: "Place", wait: "Wait", attempt: "Attempt", chunks: "Chunks",
  running: "Running", queue_waiting: "Waiting", dead: "Dead jobs", served: "Served ÷ weight", fairness: "Fairness: tokens served ÷ weight, over time", round_trip: "Round trip",
  memory: "Memory", clients: "Clients", commands: "Commands/s", persistence: "Persistence", kill: "Kill (-9)", drain: "Drain", load: "Load", unload: "Unload",
  requeue: "Give to another worker", requeue_dead: "Try again", cancel_job: "Cancel", nothing_waits: "Nothing waits.", nothing_runs: "No jobs.", no_workers: "No worker is known.",
  why_no_worker: "no worker is alive", why_loading: "a worker loads the model", why_workers_not_ready: "workers are sick or draining", why_all_slots_busy: "all slots are busy",
  why_reserved: "free slots are kept for interactive requests", why_next: "it is next", life: "Life of the job", life_link: "life", waited: "waited", keys_in_redis: "In Redis",
  sure_kill: "Kill this worker with kill -9? Its answers go on elsewhere.", all: "All", more: "More", filter: "Filter", close: "Close", reason: "Reason", when: "When",
  blind: "Blind battle", side: "Side by side", left: "Left is better", right: "Right is better", tie: "Tie", both_bad: "Both are bad", voted: "Your vote counts. {0} was left, {1} right.",
  board: "Leaderboard", rating: "Rating", interval: "95 % interval", wins: "Wins", losses: "Losses", ties: "Ties", votes: "Votes", export_votes: "Export votes (JSONL)",
  two_models: "A battle needs two models; this cluster serves {0}.", no_votes: "No votes yet.", answer_a: "Model A", answer_b: "Model B", add_model: "Add a model", remove_model: "Remove a model",
  need_vote: "Vote, or ask on.", another: "Another battle", admins_only: "Only for administrators.", make_key: "Make a key", shown_once: "Copy this key now. It is shown only once:",
  weight: "Weight", ceiling: "Up to tier", limits: "Limits", per_minute: "Requests/min", tokens_day: "Tokens/day", ending: "Ends in", made: "Made", revoke: "Revoke",
  sure_revoke: "Revoke this key? Whoever uses it is refused from now on.", no_keys: "No key was made.", unlimited: "none",
  batches: "Batches", files: "Files", upload: "Upload", start_batch: "Start a batch", progress: "Progress", no_batches: "No batches yet.", no_files: "No files yet.", name: "Name",
  size: "Size", purpose: "Purpose", download: "Download", output: "Answers", errors: "Errors", endpoint: "Endpoint", day: "Day", prompt: "Prompt", completion: "Completion", total: "Total",
  no_usage: "Nothing was used in these days.", theme: "Light or dark", kill_writer: "Kill the worker that writes this", language: "中文", eta: "ends in about {0}",
  line: "Line {0}",
};

const ZH = {
  chat: "对话", arena: "竞技场", cluster: "集群", work: "批处理", keys: "密钥", usage: "用量", skip: "跳到正文",
  copy: "复制", copied: "已复制", send: "发送", stop: "停止", again: "重新回答", go_on: "继续", edit: "编辑", save: "保存", cancel: "取消",
  remove: "删除", export: "导出", ended_jobs: "已结束的任务", nothing_ended: "没有保留的任务。", state_ended: "全部", state_finished: "已完成", state_failed: "失败",
  state_cancelled: "已取消", state_expired: "已过期", state_dead: "死亡（使工作进程崩溃）", fenced: "被拒写入",
  fenced_gone: "已失去租约且已离开的工作进程被拒的写入", since_opened: "自打开本页起", others: "其他",
  preempted: "被抢占的任务及其去向", went_on: "去向", gone_on: "{0}：{1} → {2}，已有 {3} 块，间隔 {4}",
  not_gone_on: "{0}：{1} → …，已有 {2} 块",
  tokens_by_day: "每日词元", parted_by: "按此分组", as_table: "以表格显示", share: "占比",
  change: "更改", picture: "图片 {0}", picture_short: "图片", add_picture: "添加图片", picture_blind: "{0} 不支持图像，无法向它展示图片。",
  picture_large: "{0} 太大：最多 30 MB、5000 万像素。", picture_unread: "{0} 不是可读取的图片。",
  pictures_many: "一条消息最多 {0} 张图片。", pictures_left_out: "{0} 不支持图像，本对话中的图片不会展示给它。",
  exactness: "其他工作进程续写回答的精确程度", older: "更早的对话", new_talk: "新对话", rename: "重命名",
  talks_kept: "保存在服务器上：在任何设备上用同一密钥即可找到。", talks_none: "此网关不保存对话，它们只在此浏览器中。",
  talks_away: "网关没有响应。在它恢复之前，对话只在此浏览器中。", talks_refused: "网关未保存全部内容：{0}",
  talks: "对话列表", no_talks: "暂无。", settings: "设置", model: "模型",
  system: "系统提示", temperature: "温度", max_tokens: "最多词元", top_p: "Top p", seed: "随机种子", effort: "推理强度",
  ask: "请输入问题……", you: "你", thinking: "思考过程", tool: "工具调用", first_token: "首词元", per_second: "词元/秒", tokens: "词元",
  sending: "正在发送……", waiting: "等待首个词元……", queued: "排在第 {0} 位", about: "约 {0}", reconnecting: "连接中断，正在续传……",
  no_worker_now: "目前没有工作进程提供该模型", stopped: "已停止。", failed: "失败", seam: "由 {0} 个工作进程写成", gap: "间隔 {0}",
  intact: "丢失 0，重复 0：与日志一致", repeated: "略去 {0} 个重复事件", differs: "文本与日志不一致！",
  previous: "上一版本", next: "下一版本", key_wanted: "此网关需要 API 密钥。", key: "API 密钥", remember: "在此设备上记住",
  enter: "进入", leave: "退出", kept_for_tab: "否则关闭标签页后即忘记密钥。", wrong_key: "密钥未被接受。",
  no_worker: "还没有工作进程", no_worker_why: "网关已启动，队列有响应，但没有工作进程。请在本机或其他机器上启动一个：",
  no_worker_try: "无需模型即可试用：", no_worker_wait: "一旦就绪，本页会自动继续。",
  away: "网关没有响应，正在重试……", redis: "Redis", redis_ok: "Redis 正常", redis_away: "Redis 没有响应", workers: "工作进程", worker: "工作进程",
  models: "模型", queue: "队列", jobs: "任务", state: "状态", slots: "槽位", speed: "速度", engine: "引擎", kv: "KV 缓存", hits: "前缀命中", host: "主机",
  lease: "租约", tenant: "租户", tier: "级别", age: "已过", deadline: "距截止", why: "等待原因", place: "位置", wait: "预计等待", attempt: "尝试", chunks: "块数",
  running: "运行中", queue_waiting: "等待中", dead: "死亡任务", served: "已服务 ÷ 权重", fairness: "公平性：各租户已服务词元 ÷ 权重", round_trip: "往返",
  memory: "内存", clients: "客户端", commands: "命令/秒", persistence: "持久化", kill: "强制结束 (-9)", drain: "排空", load: "加载", unload: "卸载",
  requeue: "交给其他工作进程", requeue_dead: "重试", cancel_job: "取消", nothing_waits: "没有等待的任务。", nothing_runs: "没有任务。", no_workers: "没有已知的工作进程。",
  why_no_worker: "没有存活的工作进程", why_loading: "正在加载模型", why_workers_not_ready: "工作进程异常或正在排空", why_all_slots_busy: "所有槽位都忙",
  why_reserved: "空闲槽位留给交互请求", why_next: "即将开始", life: "任务历程", life_link: "历程", waited: "等待", keys_in_redis: "在 Redis 中",
  sure_kill: "用 kill -9 结束此工作进程？它的回答会在别处继续。", all: "全部", more: "更多", filter: "筛选", close: "关闭", reason: "原因", when: "时间",
  blind: "盲测对战", side: "并排比较", left: "左边更好", right: "右边更好", tie: "平局", both_bad: "都不好", voted: "投票已计入。左边是 {0}，右边是 {1}。",
  board: "排行榜", rating: "评分", interval: "95 % 区间", wins: "胜", losses: "负", ties: "平", votes: "票数", export_votes: "导出投票 (JSONL)",
  two_models: "对战需要两个模型；本集群提供：{0}。", no_votes: "还没有投票。", answer_a: "模型 A", answer_b: "模型 B", add_model: "添加模型", remove_model: "移除模型",
  need_vote: "请投票，或继续提问。", another: "再来一场", admins_only: "仅限管理员。", make_key: "创建密钥", shown_once: "请立即复制此密钥，它只显示一次：",
  weight: "权重", ceiling: "最高级别", limits: "限额", per_minute: "请求/分钟", tokens_day: "词元/天", ending: "尾号", made: "创建于", revoke: "吊销",
  sure_revoke: "吊销此密钥？使用者将立即被拒绝。", no_keys: "还没有创建密钥。", unlimited: "无",
  batches: "批处理", files: "文件", upload: "上传", start_batch: "开始批处理", progress: "进度", no_batches: "还没有批处理。", no_files: "还没有文件。", name: "名称",
  size: "大小", purpose: "用途", download: "下载", output: "结果", errors: "错误", endpoint: "接口", day: "日期", prompt: "提示", completion: "补全", total: "合计",
  no_usage: "这些天没有用量。", theme: "明暗", kill_writer: "强制结束正在书写的工作进程", language: "English", eta: "约 {0} 后完成",
  line: "第 {0} 行",
};

/** @typedef {keyof typeof EN | `why_${string}` | `state_${string}` | `talks_${string}`} Words the last three by what the API tells */

/** @type {Record<string, Record<string, string>>} */
const TABLES = { en: EN, zh: ZH };

/** @returns {"en" | "zh"} */
export function language() {
  const chosen = localStorage.getItem(LANGUAGE) ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");
  return chosen === "zh" ? "zh" : "en";
}

/** @param {"en" | "zh"} value */
export function choose(value) {
  localStorage.setItem(LANGUAGE, value);
  document.documentElement.lang = value;
}

/** The words for a name, with what they leave open. @param {Words} name @param {...unknown} given @returns {string} */
export function t(name, ...given) {
  const words = TABLES[language()][name] ?? EN[name] ?? name;
  return given.reduce((/** @type {string} */ text, value, at) => text.replace(`{${at}}`, String(value)), words);
}
document.documentElement.lang = language();
