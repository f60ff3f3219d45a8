-- The tables of version 1, and two sessions: one that ended, one that was killed.
CREATE TABLE session (
    id INTEGER PRIMARY KEY, started TEXT NOT NULL, ended TEXT, ended_by TEXT, program TEXT NOT NULL,
    fingerprint TEXT NOT NULL, device TEXT NOT NULL, runtime TEXT NOT NULL, threads INTEGER NOT NULL,
    model TEXT NOT NULL, file TEXT NOT NULL, sha256 TEXT NOT NULL, target TEXT NOT NULL, precision TEXT NOT NULL,
    input TEXT NOT NULL, source TEXT NOT NULL, load_ms REAL NOT NULL, first_ms REAL NOT NULL, warmup INTEGER NOT NULL
);
CREATE TABLE frame (
    session INTEGER NOT NULL REFERENCES session, sequence INTEGER NOT NULL, name TEXT NOT NULL,
    captured_at REAL NOT NULL, capture_ns INTEGER NOT NULL, preprocess_ns INTEGER NOT NULL, infer_ns INTEGER NOT NULL,
    postprocess_ns INTEGER NOT NULL, total_ns INTEGER NOT NULL, label TEXT NOT NULL, probability REAL NOT NULL,
    PRIMARY KEY (session, sequence)
) WITHOUT ROWID;
CREATE TABLE event (
    id INTEGER PRIMARY KEY, session INTEGER NOT NULL REFERENCES session, at REAL NOT NULL, kind TEXT NOT NULL,
    sequence INTEGER NOT NULL, name TEXT NOT NULL, detail TEXT NOT NULL
);
INSERT INTO session VALUES
    (1, '2026-01-01T00:00:00.000Z', '2026-01-01T00:01:00.000Z', 'frames', '0.1.0', 'abcdef012345',
     '{"board":"Raspberry Pi 4 Model B Rev 1.4","soc":"brcm,bcm2711","cpu":"Cortex-A72","arch":"aarch64","cores":4,"usable_cores":4,"memory_mb":4000,"os":"Debian GNU/Linux 12","kernel":"6.1","python":"3.11.2","opencv":"4.11.0","numpy":"2.4.0"}',
     'ai-edge-litert 2.3.0', 4, 'mobilenet_v2', 'm-int8.tflite', 'aa', 'tflite', 'int8', '224×224', 'folder:x', 10.5, 20.5, 5),
    (2, '2026-01-02T00:00:00.000Z', NULL, NULL, '0.1.0', 'abcdef012345',
     '{"board":"Raspberry Pi 4 Model B Rev 1.4","soc":"brcm,bcm2711","cpu":"Cortex-A72","arch":"aarch64","cores":4,"usable_cores":4,"memory_mb":4000,"os":"Debian GNU/Linux 12","kernel":"6.1","python":"3.11.2","opencv":"4.11.0","numpy":"2.4.0"}',
     'ai-edge-litert 2.3.0', 4, 'mobilenet_v2', 'm-int8.tflite', 'aa', 'tflite', 'int8', '224×224', 'folder:x', 11.5, 21.5, 5);
INSERT INTO frame VALUES
    (1, 0, 'a.jpg', 1000.0, 100, 200, 300, 400, 1000, 'cat', 0.5),
    (1, 2, 'c.jpg', 1012.5, 110, 210, 310, 410, 1040, 'dog', 0.6),
    (2, 0, 'a.jpg', 2000.0, 120, 220, 320, 420, 1080, 'cat', 0.7);
INSERT INTO event VALUES
    (1, 1, 1001.0, 'corrupt', 1, 'b.jpg', 'it is truncated'),
    (2, 2, 2001.0, 'corrupt', 1, 'b.jpg', 'it is truncated'),
    (3, 1, 1013.0, 'corrupt', 3, 'd.jpg', 'it is empty');
PRAGMA application_id = 1162102597;
PRAGMA user_version = 1;
