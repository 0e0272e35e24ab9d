BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
CREATE TABLE artifact (
	run_id INTEGER NOT NULL, 
	path TEXT NOT NULL, 
	sha256 TEXT NOT NULL, 
	bytes BIGINT NOT NULL, 
	CONSTRAINT pk_artifact PRIMARY KEY (run_id, path), 
	CONSTRAINT ck_artifact_bytes CHECK (bytes >= 0), 
	CONSTRAINT fk_artifact_run_id_run FOREIGN KEY(run_id) REFERENCES run (id) ON DELETE CASCADE
);
INSERT INTO "artifact" VALUES(1,'predictions.jsonl','dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd',1234);
INSERT INTO "artifact" VALUES(1,'train/log.json','eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee',0);
INSERT INTO "artifact" VALUES(2,'predictions.jsonl','dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd',1234);
INSERT INTO "artifact" VALUES(2,'train/log.json','eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee',0);
INSERT INTO "artifact" VALUES(3,'predictions.jsonl','dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd',1234);
INSERT INTO "artifact" VALUES(3,'train/log.json','eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee',0);
CREATE TABLE dataset_version (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	content_hash TEXT NOT NULL, 
	source TEXT NOT NULL, 
	title TEXT NOT NULL, 
	licence TEXT NOT NULL, 
	n_images INTEGER NOT NULL, 
	n_instances BIGINT NOT NULL, 
	classes JSON NOT NULL, 
	protocols JSON NOT NULL, 
	card JSON NOT NULL, 
	CONSTRAINT pk_dataset_version PRIMARY KEY (id), 
	CONSTRAINT ck_dataset_version_source CHECK (source IN ('real', 'synthetic')), 
	CONSTRAINT ck_dataset_version_counts CHECK (n_images >= 0 AND n_instances >= 0), 
	CONSTRAINT uq_dataset_version_name_content_hash UNIQUE (name, content_hash)
);
INSERT INTO "dataset_version" VALUES(1,'cells','c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffee','real','Cells','CC0-1.0',2,7,'["cell", "nucleus"]','["voc", "semantic"]','{"name": "cells", "splits": {"test": ["a", "b"]}}');
CREATE TABLE environment (
	id INTEGER NOT NULL, 
	digest TEXT NOT NULL, 
	hash TEXT NOT NULL, 
	python TEXT NOT NULL, 
	platform TEXT NOT NULL, 
	torch TEXT, 
	mmcv TEXT, 
	ops TEXT, 
	cuda TEXT, 
	packages JSON NOT NULL, 
	CONSTRAINT pk_environment PRIMARY KEY (id), 
	CONSTRAINT uq_environment_digest UNIQUE (digest)
);
INSERT INTO "environment" VALUES(1,'0ece8b2cf094cdb22ff1bdd5dcf26e480df3a372c9f150c640477c421b0d62e3','eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee','3.11.7','linux','2.13.0','2.3.6','torchvision',NULL,'{"numpy": "2.2.6"}');
CREATE TABLE image (
	id INTEGER NOT NULL, 
	dataset_version_id INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	sha256 TEXT NOT NULL, 
	height INTEGER NOT NULL, 
	width INTEGER NOT NULL, 
	truths INTEGER NOT NULL, 
	"group" TEXT, 
	CONSTRAINT pk_image PRIMARY KEY (id), 
	CONSTRAINT ck_image_counts CHECK (height > 0 AND width > 0 AND truths >= 0), 
	CONSTRAINT fk_image_dataset_version_id_dataset_version FOREIGN KEY(dataset_version_id) REFERENCES dataset_version (id) ON DELETE CASCADE, 
	CONSTRAINT uq_image_dataset_version_id_key UNIQUE (dataset_version_id, "key")
);
INSERT INTO "image" VALUES(1,1,'a','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',512,640,3,'donor 1');
INSERT INTO "image" VALUES(2,1,'b','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',512,640,4,NULL);
CREATE TABLE image_result (
	run_id INTEGER NOT NULL, 
	metric_id INTEGER NOT NULL, 
	image_id INTEGER NOT NULL, 
	value DOUBLE, 
	tp INTEGER, 
	fp INTEGER, 
	fn INTEGER, 
	CONSTRAINT pk_image_result PRIMARY KEY (run_id, metric_id, image_id), 
	CONSTRAINT ck_image_result_counts CHECK (tp >= 0 AND fp >= 0 AND fn >= 0), 
	CONSTRAINT fk_image_result_image_id_image FOREIGN KEY(image_id) REFERENCES image (id) ON DELETE CASCADE, 
	CONSTRAINT fk_image_result_metric_id_metric FOREIGN KEY(metric_id) REFERENCES metric (id), 
	CONSTRAINT fk_image_result_run_id_run FOREIGN KEY(run_id) REFERENCES run (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "image_result" VALUES(1,1,1,0.5,2,1,0);
INSERT INTO "image_result" VALUES(1,1,2,NULL,0,0,4);
INSERT INTO "image_result" VALUES(1,5,1,0.25,NULL,NULL,NULL);
INSERT INTO "image_result" VALUES(2,1,1,0.5,2,1,0);
INSERT INTO "image_result" VALUES(2,1,2,NULL,0,0,4);
INSERT INTO "image_result" VALUES(2,5,1,0.25,NULL,NULL,NULL);
INSERT INTO "image_result" VALUES(3,1,1,0.5,2,1,0);
INSERT INTO "image_result" VALUES(3,1,2,NULL,0,0,4);
INSERT INTO "image_result" VALUES(3,5,1,0.25,NULL,NULL,NULL);
CREATE TABLE machine (
	id INTEGER NOT NULL, 
	digest TEXT NOT NULL, 
	hash TEXT NOT NULL, 
	hostname TEXT NOT NULL, 
	cpu TEXT NOT NULL, 
	cores INTEGER NOT NULL, 
	memory_bytes BIGINT NOT NULL, 
	os TEXT NOT NULL, 
	gpu TEXT, 
	gpu_memory_bytes BIGINT, 
	driver TEXT, 
	CONSTRAINT pk_machine PRIMARY KEY (id), 
	CONSTRAINT uq_machine_digest UNIQUE (digest)
);
INSERT INTO "machine" VALUES(1,'ef3904814dd73c01958058c723d37d783ab7859bdc8d3a53a5b5b9784eb6d404','mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm','desk','a processor',8,17179869184,'Linux 6.1',NULL,NULL,NULL);
CREATE TABLE method_version (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	variant TEXT NOT NULL, 
	title TEXT NOT NULL, 
	origin TEXT NOT NULL, 
	code_hash TEXT NOT NULL, 
	params JSON NOT NULL, 
	params_hash TEXT NOT NULL, 
	scored BOOLEAN NOT NULL, 
	paper JSON, 
	CONSTRAINT pk_method_version PRIMARY KEY (id), 
	CONSTRAINT uq_method_version_identity UNIQUE (name, variant, code_hash, params_hash)
);
INSERT INTO "method_version" VALUES(1,'unet','bce','U-Net (BCE)','reimplementation','beefbeefbeefbeefbeefbeefbeefbeefbeefbeefbeefbeefbeefbeefbeefbeef','{"width": 64, "rates": [0.1, 0.2]}','feedfeedfeedfeedfeedfeedfeedfeedfeedfeedfeedfeedfeedfeedfeedfeed',1,'{"title": "U-Net", "year": 2015}');
CREATE TABLE metric (
	id INTEGER NOT NULL, 
	protocol TEXT NOT NULL, 
	protocol_version TEXT NOT NULL, 
	name TEXT NOT NULL, 
	params JSON NOT NULL, 
	params_hash TEXT NOT NULL, 
	unit TEXT NOT NULL, 
	higher_is_better SMALLINT NOT NULL, 
	CONSTRAINT pk_metric PRIMARY KEY (id), 
	CONSTRAINT ck_metric_higher_is_better CHECK (higher_is_better IN (-1, 0, 1)), 
	CONSTRAINT uq_metric_definition UNIQUE (protocol, protocol_version, name, params_hash, unit, higher_is_better)
);
INSERT INTO "metric" VALUES(1,'voc','1','AP@0.5','{}','44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a','fraction',1);
INSERT INTO "metric" VALUES(2,'voc','1','IoU@0.5','{}','44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a','fraction',1);
INSERT INTO "metric" VALUES(3,'voc','1','AP@0.7','{}','44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a','fraction',1);
INSERT INTO "metric" VALUES(4,'semantic','1','rmse','{"threshold": 0.5}','78223d46fdb183493f1317458f0099631d4bda40a2652720b7a6c28f516b6135','fraction',-1);
INSERT INTO "metric" VALUES(5,'kaggle','1','precision@0.5','{}','44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a','',0);
CREATE TABLE reported_result (
	id INTEGER NOT NULL, 
	paper TEXT NOT NULL, 
	"table" TEXT NOT NULL, 
	method TEXT NOT NULL, 
	dataset TEXT NOT NULL, 
	protocol TEXT NOT NULL, 
	metric TEXT NOT NULL, 
	value DOUBLE NOT NULL, 
	unit TEXT NOT NULL, 
	comparable BOOLEAN NOT NULL, 
	note TEXT NOT NULL, 
	split TEXT NOT NULL, 
	counterpart TEXT NOT NULL, 
	hardware TEXT NOT NULL, 
	wording TEXT NOT NULL, 
	CONSTRAINT pk_reported_result PRIMARY KEY (id), 
	CONSTRAINT uq_reported_result_identity UNIQUE (dataset, paper, "table", method, protocol, metric, split)
);
INSERT INTO "reported_result" VALUES(1,'A paper','1','U-Net','cells','voc','AP@0.5',0.61,'fraction',1,'','','','','');
CREATE TABLE result (
	run_id INTEGER NOT NULL, 
	metric_id INTEGER NOT NULL, 
	position SMALLINT NOT NULL, 
	value DOUBLE, 
	reason TEXT, 
	low DOUBLE, 
	high DOUBLE, 
	n INTEGER, 
	CONSTRAINT pk_result PRIMARY KEY (run_id, metric_id), 
	CONSTRAINT ck_result_interval CHECK ((low IS NULL) = (high IS NULL)), 
	CONSTRAINT ck_result_interval_order CHECK (low <= high), 
	CONSTRAINT ck_result_n CHECK (n >= 0), 
	CONSTRAINT ck_result_value_or_reason CHECK (value IS NOT NULL OR reason IS NOT NULL), 
	CONSTRAINT fk_result_metric_id_metric FOREIGN KEY(metric_id) REFERENCES metric (id), 
	CONSTRAINT fk_result_run_id_run FOREIGN KEY(run_id) REFERENCES run (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "result" VALUES(1,1,0,0.5,NULL,NULL,NULL,NULL);
INSERT INTO "result" VALUES(1,2,1,0.8,NULL,0.7,0.9,2);
INSERT INTO "result" VALUES(1,3,2,NULL,'undefined: no prediction',NULL,NULL,NULL);
INSERT INTO "result" VALUES(1,4,3,0.25,NULL,NULL,NULL,2);
INSERT INTO "result" VALUES(2,1,0,0.6,NULL,NULL,NULL,NULL);
INSERT INTO "result" VALUES(2,2,1,0.8,NULL,0.7,0.9,2);
INSERT INTO "result" VALUES(2,3,2,NULL,'undefined: no prediction',NULL,NULL,NULL);
INSERT INTO "result" VALUES(2,4,3,0.25,NULL,NULL,NULL,2);
INSERT INTO "result" VALUES(3,1,0,0.5,NULL,NULL,NULL,NULL);
INSERT INTO "result" VALUES(3,2,1,0.8,NULL,0.7,0.9,2);
INSERT INTO "result" VALUES(3,3,2,NULL,'undefined: no prediction',NULL,NULL,NULL);
INSERT INTO "result" VALUES(3,4,3,0.25,NULL,NULL,NULL,2);
CREATE TABLE run (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	"key" TEXT NOT NULL, 
	dataset_version_id INTEGER NOT NULL, 
	method_version_id INTEGER NOT NULL, 
	environment_id INTEGER NOT NULL, 
	machine_id INTEGER NOT NULL, 
	split TEXT NOT NULL, 
	seed BIGINT NOT NULL, 
	schedule TEXT NOT NULL, 
	init TEXT NOT NULL, 
	device TEXT NOT NULL, 
	status TEXT NOT NULL, 
	superseded BOOLEAN NOT NULL, 
	badge TEXT NOT NULL, 
	started DATETIME NOT NULL, 
	finished DATETIME NOT NULL, 
	attempt INTEGER NOT NULL, 
	folder TEXT NOT NULL, 
	command TEXT NOT NULL, 
	n_images INTEGER NOT NULL, 
	complete BOOLEAN NOT NULL, 
	failure_kind TEXT, 
	failure TEXT, 
	"commit" TEXT, 
	dirty BOOLEAN, 
	weights_sha256 TEXT, 
	train_seconds DOUBLE, 
	predict_seconds DOUBLE, 
	peak_memory_bytes BIGINT, 
	n_parameters BIGINT, 
	arguments JSON NOT NULL, 
	submitted_by TEXT, 
	note TEXT, 
	latency_median_ms DOUBLE, 
	latency_p95_ms DOUBLE, 
	CONSTRAINT ck_run_status CHECK ((status = 'ok' AND failure_kind IS NULL) OR (status = 'failed' AND failure_kind IS NOT NULL)), 
	CONSTRAINT ck_run_badge CHECK (badge IN ('measured', 'submitted', 'control')), 
	CONSTRAINT ck_run_failure_kind CHECK (failure_kind IN ('out_of_memory', 'timeout', 'error', 'interrupted')), 
	CONSTRAINT ck_run_attempt CHECK (attempt >= 1), 
	CONSTRAINT ck_run_n_images CHECK (n_images >= 0), 
	CONSTRAINT fk_run_dataset_version_id_dataset_version FOREIGN KEY(dataset_version_id) REFERENCES dataset_version (id), 
	CONSTRAINT fk_run_environment_id_environment FOREIGN KEY(environment_id) REFERENCES environment (id), 
	CONSTRAINT fk_run_machine_id_machine FOREIGN KEY(machine_id) REFERENCES machine (id), 
	CONSTRAINT fk_run_method_version_id_method_version FOREIGN KEY(method_version_id) REFERENCES method_version (id)
);
INSERT INTO "run" VALUES(1,'ee5ee412357774fa0ab1922f41876b44b84250c45b3fda4f2ea4e69be39c028f',1,1,1,1,'test',0,'paper','random','cpu','ok',1,'measured','2026-03-01 12:00:00.000000','2026-03-01 12:05:00.000000',1,'runs/d/unet-bce/0','bench run --method unet-bce --dataset cells',2,1,NULL,NULL,'0123abcd',0,NULL,281.5,3.25,3221225472,31000000,'{"method": "unet-bce", "seed": 0, "nested": {"list": [1, 2.5, null, true]}}',NULL,'a note',17.5,22.85);
INSERT INTO "run" VALUES(2,'ee5ee412357774fa0ab1922f41876b44b84250c45b3fda4f2ea4e69be39c028f',1,1,1,1,'test',0,'paper','random','cpu','ok',0,'measured','2026-03-01 12:00:00.000000','2026-03-01 12:05:00.000000',1,'runs/d/unet-bce/0','bench run --method unet-bce --dataset cells',2,1,NULL,NULL,'0123abcd',0,NULL,281.5,3.25,3221225472,31000000,'{"method": "unet-bce", "seed": 0, "nested": {"list": [1, 2.5, null, true]}}',NULL,'a note',17.5,22.85);
INSERT INTO "run" VALUES(3,'8ee407cbf1f8e013868d56102f00a17ea98c164c3b34afb130b22c8713ddbc90',1,1,1,1,'test',0,'paper','random','cpu','failed',0,'measured','2026-03-01 12:00:00.000000','2026-03-01 12:05:00.000000',1,'runs/d/unet-bce/0','bench run --method unet-bce --dataset cells',2,1,'out_of_memory','it was full','0123abcd',0,NULL,281.5,3.25,3221225472,31000000,'{"method": "unet-bce", "seed": 0, "nested": {"list": [1, 2.5, null, true]}}',NULL,'a note',17.5,22.85);
CREATE TABLE timing_sample (
	run_id INTEGER NOT NULL, 
	phase VARCHAR(20) NOT NULL, 
	image_id INTEGER NOT NULL, 
	round INTEGER NOT NULL, 
	milliseconds DOUBLE NOT NULL, 
	CONSTRAINT pk_timing_sample PRIMARY KEY (run_id, phase, image_id, round), 
	CONSTRAINT ck_timing_sample_phase CHECK (phase IN ('total', 'preprocess', 'network', 'postprocess')), 
	CONSTRAINT ck_timing_sample_milliseconds CHECK (milliseconds >= 0), 
	CONSTRAINT fk_timing_sample_image_id_image FOREIGN KEY(image_id) REFERENCES image (id) ON DELETE CASCADE, 
	CONSTRAINT fk_timing_sample_run_id_run FOREIGN KEY(run_id) REFERENCES run (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "timing_sample" VALUES(1,'network',1,0,10.0);
INSERT INTO "timing_sample" VALUES(1,'network',1,1,10.0);
INSERT INTO "timing_sample" VALUES(1,'network',2,0,20.0);
INSERT INTO "timing_sample" VALUES(1,'network',2,1,20.0);
INSERT INTO "timing_sample" VALUES(1,'total',1,0,12.0);
INSERT INTO "timing_sample" VALUES(1,'total',1,1,13.0);
INSERT INTO "timing_sample" VALUES(1,'total',2,0,22.0);
INSERT INTO "timing_sample" VALUES(1,'total',2,1,23.0);
INSERT INTO "timing_sample" VALUES(2,'network',1,0,10.0);
INSERT INTO "timing_sample" VALUES(2,'network',1,1,10.0);
INSERT INTO "timing_sample" VALUES(2,'network',2,0,20.0);
INSERT INTO "timing_sample" VALUES(2,'network',2,1,20.0);
INSERT INTO "timing_sample" VALUES(2,'total',1,0,12.0);
INSERT INTO "timing_sample" VALUES(2,'total',1,1,13.0);
INSERT INTO "timing_sample" VALUES(2,'total',2,0,22.0);
INSERT INTO "timing_sample" VALUES(2,'total',2,1,23.0);
INSERT INTO "timing_sample" VALUES(3,'network',1,0,10.0);
INSERT INTO "timing_sample" VALUES(3,'network',1,1,10.0);
INSERT INTO "timing_sample" VALUES(3,'network',2,0,20.0);
INSERT INTO "timing_sample" VALUES(3,'network',2,1,20.0);
INSERT INTO "timing_sample" VALUES(3,'total',1,0,12.0);
INSERT INTO "timing_sample" VALUES(3,'total',1,1,13.0);
INSERT INTO "timing_sample" VALUES(3,'total',2,0,22.0);
INSERT INTO "timing_sample" VALUES(3,'total',2,1,23.0);
CREATE INDEX ix_environment_hash ON environment (hash);
CREATE INDEX ix_machine_hash ON machine (hash);
CREATE INDEX ix_run_board ON run (dataset_version_id, split, status, superseded, schedule);
CREATE INDEX ix_run_environment_id ON run (environment_id);
CREATE INDEX ix_run_key ON run ("key");
CREATE INDEX ix_run_machine_id ON run (machine_id);
CREATE INDEX ix_run_method_version_id ON run (method_version_id);
CREATE INDEX ix_run_started ON run (started);
CREATE UNIQUE INDEX uq_run_standing ON run ("key") WHERE status = 'ok' AND NOT superseded;
CREATE INDEX ix_image_result_image_id_metric_id ON image_result (image_id, metric_id);
CREATE INDEX ix_result_metric_id ON result (metric_id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('run',3);
COMMIT;
