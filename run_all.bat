@echo off
rem Set up once, then bring every layer of the vault up to date. What `make run` does, on Windows.
setlocal
cd /d "%~dp0"
if not exist .venv\Scripts\python.exe (
    echo setting up .venv ^(once^)
    py -3 -m venv .venv || python -m venv .venv || exit /b 1
)
if not exist .venv\.ready (
    .venv\Scripts\python -m pip install -qq --disable-pip-version-check -r requirements.lock || exit /b 1
    .venv\Scripts\python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e . || exit /b 1
    type nul > .venv\.ready
)
set VAULT=%FLOWVAULT_VAULT%
if "%VAULT%"=="" set VAULT=vault
.venv\Scripts\python scripts\first_run.py --vault "%VAULT%"
exit /b %ERRORLEVEL%
