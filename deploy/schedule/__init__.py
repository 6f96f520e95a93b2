"""Each night's questions on a schedule: a run file with nights, and it started by Airflow, systemd or cron."""
